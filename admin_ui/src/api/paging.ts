/** Listings in cursor pages: one page after the other, shown as they come. */
import type { QueryKey } from "@tanstack/react-query";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";

export interface Page<Item> {
  items: Item[];
  next_cursor?: string | null;
}

export interface Listing<Item> {
  queryKey: QueryKey;
  page: (cursor: string | undefined, signal: AbortSignal) => Promise<Page<Item>>;
  refetchInterval?: number;
  enabled?: boolean;
}

export interface Listed<Item> {
  items: Item[];
  isPending: boolean; // nothing has come yet
  isComplete: boolean; // no page is left
  error: unknown;
  refetch: () => void;
  more: () => void; // fetches the next page, where `all` is off
  isFetchingMore: boolean;
}

/** The largest page that the hub gives. */
export const PAGE = 200;

/** Follows a listing; with `all` it fetches page after page until the end. */
export function useListing<Item>(listing: Listing<Item>, { all = true } = {}): Listed<Item> {
  const query = useInfiniteQuery({
    queryKey: listing.queryKey,
    queryFn: ({ pageParam, signal }) => listing.page(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    ...(listing.refetchInterval === undefined ? {} : { refetchInterval: listing.refetchInterval }),
    enabled: listing.enabled ?? true,
  });
  const { hasNextPage, isFetchingNextPage, isFetching, fetchNextPage, isError } = query;
  useEffect(() => {
    if (all && hasNextPage && !isFetching && !isError) void fetchNextPage();
  }, [all, hasNextPage, isFetching, isError, fetchNextPage]);
  const items = useMemo(() => query.data?.pages.flatMap((page) => page.items) ?? [], [query.data]);
  return {
    items,
    isPending: query.isPending,
    isComplete: query.isSuccess && !hasNextPage,
    error: query.error,
    refetch: () => void query.refetch(),
    more: () => void fetchNextPage(),
    isFetchingMore: isFetchingNextPage,
  };
}
