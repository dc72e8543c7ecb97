import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "@mantine/core/styles.css";
import "@mantine/charts/styles.css";
import "@mantine/notifications/styles.css";
import "@/app/styles.css";

import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router";

import { onSessionEnd } from "@/api/client";
import { keys } from "@/api/keys";
import { queryClient } from "@/app/queryClient";
import { router } from "@/app/router";
import { cssVariables, theme } from "@/app/theme";
import { sessionQuery } from "@/features/session/session";

onSessionEnd(() => queryClient.setQueryData(keys.session, null));

function styleNonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";
}

// Where the scroll lock behind modals looks for the nonce of the style that it adds.
Object.assign(globalThis, { __webpack_nonce__: styleNonce() });

// Every page waits for it, so it is asked for before the page's own code has come; what fails shows there.
queryClient.query(sessionQuery).catch(() => undefined);

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariables}
      defaultColorScheme="auto"
      getStyleNonce={styleNonce}
    >
      <QueryClientProvider client={queryClient}>
        <Notifications position="bottom-right" />
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
