/** Channels: where a federation's events go outside the hub. */
import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type Channel = Schema<"Channel">;

export function channels(federation: string): Listing<Channel> {
  return {
    queryKey: keys.domain(federation, "channels"),
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/channels", {
          params: { path: { federation }, query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
          signal,
        }),
      ),
  };
}

export function createChannel(federation: string, body: Schema<"ChannelCreate">): Promise<Schema<"NewChannel">> {
  return unwrap(api.POST("/v1/federations/{federation}/channels", { params: { path: { federation } }, body }));
}

export function changeChannel(
  federation: string,
  channelId: string,
  body: Schema<"ChannelChange">,
): Promise<Channel> {
  return unwrap(
    api.PATCH("/v1/federations/{federation}/channels/{channel_id}", {
      params: { path: { federation, channel_id: channelId } },
      body,
    }),
  );
}

export function removeChannel(federation: string, channelId: string): Promise<unknown> {
  return unwrap(
    api.DELETE("/v1/federations/{federation}/channels/{channel_id}", {
      params: { path: { federation, channel_id: channelId } },
    }),
  );
}

export function tryChannel(federation: string, channelId: string): Promise<Schema<"ChannelTest">> {
  return unwrap(
    api.POST("/v1/federations/{federation}/channels/{channel_id}/test", {
      params: { path: { federation, channel_id: channelId } },
    }),
  );
}

/** What is often wanted; any kind, prefix ending in ".*", or "*" may be typed. */
export const SUGGESTED_EVENTS = [
  "alert.*",
  "run.completed",
  "run.failed",
  "run.*",
  "round.completed",
  "round.failed",
  "site.*",
  "site.enrolled",
  "*",
];
