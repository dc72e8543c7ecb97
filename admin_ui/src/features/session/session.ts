/** Who is signed in. */
import { queryOptions, useQueryClient, useSuspenseQuery } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { ProblemError } from "@/api/problems";
import type { User } from "@/api/types";

/** The person who is signed in; null for nobody. */
export const sessionQuery = queryOptions({
  queryKey: keys.session,
  queryFn: async ({ signal }): Promise<User | null> => {
    try {
      return await unwrap(api.GET("/v1/session", { signal }));
    } catch (error) {
      if (error instanceof ProblemError && error.status === 401) return null;
      throw error;
    }
  },
  staleTime: 60_000,
});

/** Returns who is signed in, below <SignedIn>. */
export function useUser(): User {
  const { data } = useSuspenseQuery(sessionQuery);
  if (data === null) throw new Error("nobody is signed in: this belongs below <SignedIn>");
  return data;
}

export async function signIn(email: string, password: string): Promise<User> {
  const session = await unwrap(api.POST("/v1/session/cookie", { body: { email, password } }));
  return session.user;
}

/** Returns what ends the session and forgets everything that was read in it. */
export function useSignOut(): () => Promise<void> {
  const queryClient = useQueryClient();
  return async () => {
    await unwrap(api.DELETE("/v1/session"));
    // The session's own query stays: the page follows it.
    queryClient.setQueryData(keys.session, null);
    queryClient.removeQueries({ predicate: (query) => query.queryKey[0] !== keys.session[0] });
  };
}
