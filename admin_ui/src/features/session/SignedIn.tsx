import { Center, Container, Loader } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Navigate, Outlet, useLocation } from "react-router";

import { Problem } from "@/components/Problem";
import { sessionQuery } from "@/features/session/session";

/** Everything that takes a session; without one it leads to the sign-in page and back. */
export function SignedIn() {
  const session = useQuery(sessionQuery);
  const { pathname, search } = useLocation();
  if (session.data === undefined) {
    if (!session.isError) return <Center h="100dvh"><Loader aria-label="Loading" /></Center>;
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
