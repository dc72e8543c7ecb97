import { Anchor, Button, Center, PasswordInput, Stack, Text, TextInput, Title } from "@mantine/core";
import { useDocumentTitle } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Navigate, useSearchParams } from "react-router";

import { keys } from "@/api/keys";
import { apiPath } from "@/api/location";
import { Brand } from "@/app/Brand";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import classes from "@/features/session/SignInPage.module.css";
import { sessionQuery, signIn } from "@/features/session/session";

export function SignInPage() {
  useDocumentTitle("Sign in · Hansa");
  const queryClient = useQueryClient();
  const session = useQuery(sessionQuery);
  const [search] = useSearchParams();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const action = useAction({
    run: () => signIn(email, password),
    quiet: true,
    after: (user) => queryClient.setQueryData(keys.session, user),
  });
  if (session.data) return <Navigate to={inside(search.get("next"))} replace />;
  return (
    <Center component="main" className={classes.page}>
      <Stack className={classes.card} gap="lg">
        <Brand large />
        <Stack gap={4}>
          <Title order={1}>Sign in</Title>
          <Text c="dimmed" size="sm">
            One model across many data sites, without moving the data.
          </Text>
        </Stack>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            action.mutate();
          }}
        >
          <Stack>
            <TextInput
              label="E-mail"
              type="email"
              name="email"
              autoComplete="username"
              required
              autoFocus
              value={email}
              onChange={(event) => setEmail(event.currentTarget.value)}
            />
            <PasswordInput
              label="Password"
              name="password"
              autoComplete="current-password"
              required
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
            />
            {action.isError && <Problem error={action.error} />}
            <Button type="submit" loading={action.isPending} fullWidth>
              Sign in
            </Button>
          </Stack>
        </form>
        <Text size="xs" c="dimmed">
          The first administrator&apos;s password lies where <span className="mono">hansa-hub up</span> said it
          does. Others get an account from an administrator. The{" "}
          <Anchor href={`${apiPath}/docs`} inherit underline="always">
            REST API
          </Anchor>{" "}
          takes the same account.
        </Text>
      </Stack>
    </Center>
  );
}

/** A path of the console, never another site's. */
function inside(next: string | null): string {
  return next?.startsWith("/") && !next.startsWith("//") ? next : "/";
}
