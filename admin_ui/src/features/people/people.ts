/** Accounts of the hub, for administrators. */
import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema, User } from "@/api/types";

export const people: Listing<User> = {
  queryKey: keys.people,
  page: (cursor, signal) =>
    unwrap(
      api.GET("/v1/users", {
        params: { query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
        signal,
      }),
    ),
};

export function createPerson(body: Schema<"UserCreate">): Promise<User> {
  return unwrap(api.POST("/v1/users", { body }));
}

export function changePerson(userId: string, body: Schema<"UserChange">): Promise<User> {
  return unwrap(api.PATCH("/v1/users/{user_id}", { params: { path: { user_id: userId } }, body }));
}
