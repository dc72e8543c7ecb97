/** Sites and invitations: what is read of them, and what people do with them. */
import { queryOptions } from "@tanstack/react-query";
import type { QueryClient } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Event, Schema, Site } from "@/api/types";

export type Invitation = Schema<"Invitation">;
export type InvitationCreate = Schema<"InvitationCreate">;
export type NewInvitation = Schema<"NewInvitation">;
export type SiteTask = Schema<"SiteTask">;
export type TaskState = Schema<"TaskState">;
export type Change = "approve" | "suspend" | "reinstate" | "revoke";
export type Labels = Site["labels"];

const SEEN_MS = 20_000; // no event tells that a site was seen
const EVENTS = 500; // of the federation, among which a site's own are looked for
const TASKS = 50; // a page of a site's history

/** All sites with their records, newest first. */
export function sitesListing(federation: string): Listing<Site> {
  return {
    queryKey: [...keys.domain(federation, "sites"), "list"],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/sites", {
          params: { path: { federation }, query: { record: true, limit: PAGE, ...(cursor && { cursor }) } },
          signal,
        }),
      ),
    refetchInterval: SEEN_MS,
  };
}

/** The newest sites, for whoever waits for one to come; asked more often until it was seen. */
export function arrivalsQuery(federation: string, invitationId: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "sites"), "arrivals", invitationId],
    queryFn: async ({ signal }) => {
      const { items } = await unwrap(
        api.GET("/v1/federations/{federation}/sites", {
          params: { path: { federation }, query: { limit: PAGE } },
          signal,
        }),
      );
      return items.filter((site) => site.invitation_id === invitationId);
    },
    refetchInterval: ({ state }) =>
      state.data?.some((site) => site.state === "active" && !site.online) ? 3_000 : SEEN_MS,
  });
}

/** One site with its record. */
export function siteQuery(federation: string, siteId: string) {
  return queryOptions({
    queryKey: keys.site(federation, siteId),
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/sites/{site_id}", {
          params: { path: { federation, site_id: siteId } },
          signal,
        }),
      ),
    refetchInterval: SEEN_MS,
  });
}

/** What a site was asked for in all runs, newest first; in the given states alone where some are given. */
export function historyListing(federation: string, siteId: string, states: TaskState[]): Listing<SiteTask> {
  return {
    queryKey: [...keys.site(federation, siteId), "tasks", states],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/sites/{site_id}/tasks", {
          params: {
            path: { federation, site_id: siteId },
            query: { state: states, limit: TASKS, ...(cursor && { cursor }) },
          },
          signal,
        }),
      ),
  };
}

/** The federation's newest events, of which those about a site are kept. */
export function siteEventsQuery(federation: string, siteId: string) {
  return queryOptions({
    queryKey: [...keys.site(federation, siteId), "events"],
    queryFn: async ({ signal }): Promise<Event[]> => {
      const { items } = await unwrap(
        api.GET("/v1/federations/{federation}/events", {
          params: { path: { federation }, query: { newest: true, limit: EVENTS } },
          signal,
        }),
      );
      return items.filter((event) => event.data["site_id"] === siteId);
    },
  });
}

/** All invitations, newest first. */
export function invitationsListing(federation: string): Listing<Invitation> {
  return {
    queryKey: [...keys.domain(federation, "invitations"), "list"],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/invitations", {
          params: { path: { federation }, query: { limit: PAGE, ...(cursor && { cursor }) } },
          signal,
        }),
      ),
  };
}

/** Approves, suspends, reinstates or revokes a site. */
export function changeSite(federation: string, siteId: string, change: Change, reason: string): Promise<Site> {
  return unwrap(
    api.POST("/v1/federations/{federation}/sites/{site_id}/{change}", {
      params: { path: { federation, site_id: siteId, change } },
      body: { reason },
    }),
  );
}

/** Replaces a site's labels. */
export function putLabels(federation: string, siteId: string, labels: Labels): Promise<Site> {
  return unwrap(
    api.PUT("/v1/federations/{federation}/sites/{site_id}/labels", {
      params: { path: { federation, site_id: siteId } },
      body: { labels },
    }),
  );
}

/** Makes an invitation; its secret is in this answer only. */
export function invite(federation: string, body: InvitationCreate): Promise<NewInvitation> {
  return unwrap(
    api.POST("/v1/federations/{federation}/invitations", { params: { path: { federation } }, body }),
  );
}

/** Makes an invitation unusable. */
export function revokeInvitation(federation: string, invitationId: string): Promise<unknown> {
  return unwrap(
    api.DELETE("/v1/federations/{federation}/invitations/{invitation_id}", {
      params: { path: { federation, invitation_id: invitationId } },
    }),
  );
}

/** Puts a site that was changed in place of what was known of it, and asks again for what counts sites. */
export function noteSite(client: QueryClient, federation: string, site: Site): Promise<unknown> {
  client.setQueryData<Site>(keys.site(federation, site.id), (known) => ({ ...known, ...site, record: site.record ?? known?.record ?? null }));
  return Promise.all([
    client.invalidateQueries({ queryKey: keys.domain(federation, "sites") }),
    client.invalidateQueries({ queryKey: keys.domain(federation, "overview") }),
  ]);
}
