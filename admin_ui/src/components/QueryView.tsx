import { Skeleton, Stack } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { Problem } from "@/components/Problem";

interface Props<Data> {
  query: UseQueryResult<Data>;
  children: (data: Data) => ReactNode;
  rows?: number; // of the skeleton
}

/** A query's data; until it is there a skeleton, and where it fails the problem. */
export function QueryView<Data>({ query, children, rows = 4 }: Props<Data>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isError) return <Problem error={query.error} retry={() => void query.refetch()} />;
  return <Loading rows={rows} />;
}

/** Grey bars in place of what is on its way. */
export function Loading({ rows = 4 }: { rows?: number }) {
  return (
    <Stack gap="sm" role="status" aria-busy="true" aria-label="Loading">
      {Array.from({ length: rows }, (_, row) => (
        <Skeleton key={row} height={22} width={row % 3 === 2 ? "60%" : "100%"} />
      ))}
    </Stack>
  );
}
