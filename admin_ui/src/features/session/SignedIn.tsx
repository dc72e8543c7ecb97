import { Container } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Navigate, Outlet, useLocation } from "react-router";

import { Opening } from "@/app/Opening";
import { Problem } from "@/components/Problem";
import { sessionQuery } from "@/features/session/session";

/** Everything that takes a session; without one it leads to the sign-in page and back. */
export function SignedIn() {
  const session = useQuery(sessionQuery);
  const { pathname, search } = useLocation();
  if (session.data === undefined) {
    if (!session.isError) return <Opening />;
    return (
      <Container size="xs" pt={120}>
        <Problem error={session.error} retry={() => void session.refetch()} />
      </Container>
    );
  }
  if (session.data === null) {
    const next = pathname === "/" ? "" : `?next=${encodeURIComponent(pathname + search)}`;
    return <Navigate to={`/sign-in${next}`} replace />;
  }
  return <Outlet />;
}
