import type { ReactNode } from "react";
import { Component } from "react";

import { Problem } from "@/components/Problem";

interface State {
  error: unknown;
}

/** Keeps the frame when a page breaks, and says what broke. */
export class ErrorBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: null };

  static getDerivedStateFromError(error: unknown): State {
    return { error };
  }

  override render(): ReactNode {
    if (this.state.error === null) return this.props.children;
    return <Problem error={this.state.error} retry={() => window.location.reload()} />;
  }
}
