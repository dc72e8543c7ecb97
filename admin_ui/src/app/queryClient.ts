/** The one store of what was read from the hub. Nothing of it is kept a second time. */
import { QueryClient } from "@tanstack/react-query";

import { ProblemError } from "@/api/problems";

const TRIES = 4;

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000, // events make stale what changes earlier
      retry: (failures, error) => !(error instanceof ProblemError && error.status < 500) && failures < TRIES,
      retryDelay: (failures) => Math.min(500 * 2 ** failures, 8_000),
    },
  },
});
