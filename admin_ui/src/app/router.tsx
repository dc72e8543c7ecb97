/** Every address of the console. Pages are loaded when they are opened. */
import type { ComponentType } from "react";
import { Navigate, createBrowserRouter } from "react-router";

import { consolePath } from "@/api/location";
import { FederationFrame } from "@/app/FederationFrame";
import { HubFrame } from "@/app/HubFrame";
import { NotFoundPage } from "@/app/NotFoundPage";
import { Opening } from "@/app/Opening";
import { SignInPage } from "@/features/session/SignInPage";
import { SignedIn } from "@/features/session/SignedIn";

/** Loads the page `name` of a module when its address is opened. */
function page<Name extends string>(load: () => Promise<Record<Name, ComponentType>>, name: Name) {
  return async () => ({ Component: (await load())[name] });
}

export const router = createBrowserRouter(
  [
    { path: "/sign-in", Component: SignInPage },
    {
      Component: SignedIn,
      HydrateFallback: Opening,
      children: [
        {
          Component: HubFrame,
          children: [
            { index: true, lazy: page(() => import("@/features/federations/FederationsPage"), "FederationsPage") },
            { path: "deployment", lazy: page(() => import("@/features/deployment/DeploymentPage"), "DeploymentPage") },
            { path: "people", lazy: page(() => import("@/features/people/PeoplePage"), "PeoplePage") },
            { path: "tokens", lazy: page(() => import("@/features/tokens/TokensPage"), "TokensPage") },
            { path: "audit", lazy: page(() => import("@/features/audit/HubAuditPage"), "HubAuditPage") },
            { path: "*", Component: NotFoundPage },
          ],
        },
        {
          path: "f/:federation",
          Component: FederationFrame,
          children: [
            { index: true, lazy: page(() => import("@/features/federations/FederationPage"), "FederationPage") },
            { path: "settings", lazy: page(() => import("@/features/federations/SettingsPage"), "SettingsPage") },
            { path: "members", lazy: page(() => import("@/features/members/MembersPage"), "MembersPage") },
            { path: "sites", lazy: page(() => import("@/features/sites/SitesPage"), "SitesPage") },
            { path: "sites/enrol", lazy: page(() => import("@/features/sites/EnrolPage"), "EnrolPage") },
            { path: "sites/:siteId", lazy: page(() => import("@/features/sites/SitePage"), "SitePage") },
            { path: "runs", lazy: page(() => import("@/features/runs/RunsPage"), "RunsPage") },
            { path: "runs/new", lazy: page(() => import("@/features/plans/NewRunPage"), "NewRunPage") },
            { path: "runs/compare", lazy: page(() => import("@/features/comparison/ComparePage"), "ComparePage") },
            { path: "runs/:runId", lazy: page(() => import("@/features/runs/RunPage"), "RunPage") },
            { path: "runs/:runId/fork", lazy: page(() => import("@/features/plans/ForkPage"), "ForkPage") },
            { path: "runs/:runId/receipts", lazy: page(() => import("@/features/receipts/ReceiptsPage"), "ReceiptsPage") },
            { path: "models", lazy: page(() => import("@/features/models/ModelsPage"), "ModelsPage") },
            { path: "models/:model", lazy: page(() => import("@/features/models/ModelPage"), "ModelPage") },
            {
              path: "models/:model/checkpoints/:checkpointId",
              lazy: page(() => import("@/features/models/CheckpointPage"), "CheckpointPage"),
            },
            { path: "alerts", lazy: page(() => import("@/features/alerts/AlertsPage"), "AlertsPage") },
            { path: "channels", lazy: page(() => import("@/features/channels/ChannelsPage"), "ChannelsPage") },
            { path: "audit", lazy: page(() => import("@/features/audit/AuditPage"), "AuditPage") },
            { path: "*", Component: NotFoundPage },
          ],
        },
      ],
    },
    { path: "*", element: <Navigate to="/" replace /> },
  ],
  { basename: consolePath },
);
