/** Who belongs to a federation, and as what. */
import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type Member = Schema<"Member">;
export type Role = Schema<"Role">;

export const ROLES: Record<Role, string> = {
  owner: "settings, members, and everything below",
  operator: "invitations and sites",
  researcher: "models and runs",
  auditor: "reads all, with the audit log; holds receipts",
};

export function members(federation: string): Listing<Member> {
  return {
    queryKey: keys.domain(federation, "members"),
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/members", {
          params: { path: { federation }, query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
          signal,
        }),
      ),
  };
}

/** Makes a person a member, or changes the role of one; `person` is an e-mail address or an id. */
export function putMember(federation: string, person: string, role: Role): Promise<Member> {
  return unwrap(
    api.PUT("/v1/federations/{federation}/members/{person}", {
      params: { path: { federation, person } },
      body: { role },
    }),
  );
}

export function removeMember(federation: string, person: string): Promise<unknown> {
  return unwrap(
    api.DELETE("/v1/federations/{federation}/members/{person}", { params: { path: { federation, person } } }),
  );
}
