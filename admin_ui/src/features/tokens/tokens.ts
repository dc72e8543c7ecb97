/** The person's own API tokens. */
import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type Token = Schema<"ApiToken">;
export type NewToken = Schema<"NewApiToken">;
export type Scope = Schema<"Scope">;

export const SCOPES: Record<Scope, string> = {
  read: "read whatever the account may read",
  runs: "models, checkpoints and runs",
  sites: "invitations and sites",
  admin: "settings, members, accounts; and found federations",
};

export const tokens: Listing<Token> = {
  queryKey: keys.tokens,
  page: (cursor, signal) =>
    unwrap(
      api.GET("/v1/tokens", {
        params: { query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
        signal,
      }),
    ),
};

export function createToken(body: Schema<"ApiTokenCreate">): Promise<NewToken> {
  return unwrap(api.POST("/v1/tokens", { body }));
}

export function revokeToken(tokenId: string): Promise<unknown> {
  return unwrap(api.DELETE("/v1/tokens/{token_id}", { params: { path: { token_id: tokenId } } }));
}
