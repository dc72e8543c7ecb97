import { Button, PasswordInput, Stack, Switch, TextInput } from "@mantine/core";
import { useState } from "react";

import type { User } from "@/api/types";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { changePerson, createPerson } from "@/features/people/people";

export function NewPersonForm({ done }: { done: () => void }) {
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [isAdmin, setIsAdmin] = useState(false);
  const action = useAction({
    run: () => createPerson({ name, email: email.trim(), password, is_admin: isAdmin }),
    done: ({ name: created }) => `${created} has an account`,
    quiet: true,
    after: done,
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate();
      }}
    >
      <Stack>
        <TextInput
          label="Name"
          required
          maxLength={200}
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <TextInput
          label="E-mail"
          type="email"
          required
          autoComplete="off"
          value={email}
          onChange={(event) => setEmail(event.currentTarget.value)}
        />
        <PasswordField value={password} change={setPassword} />
        <Switch
          label="Administrator of the hub"
          description="Sees every federation, accounts and the deployment."
          checked={isAdmin}
          onChange={(event) => setIsAdmin(event.currentTarget.checked)}
        />
        {action.isError && <Problem error={action.error} />}
        <Button type="submit" loading={action.isPending}>
          Create account
        </Button>
      </Stack>
    </form>
  );
}

export function NewPasswordForm({ person, done }: { person: User; done: () => void }) {
  const [password, setPassword] = useState("");
  const action = useAction({
    run: () => changePerson(person.id, { password }),
    done: `${person.name} has a new password`,
    quiet: true,
    after: done,
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate();
      }}
    >
      <Stack>
        <PasswordField value={password} change={setPassword} />
        {action.isError && <Problem error={action.error} />}
        <Button type="submit" loading={action.isPending}>
          Set password
        </Button>
      </Stack>
    </form>
  );
}

function PasswordField({ value, change }: { value: string; change: (value: string) => void }) {
  return (
    <PasswordInput
      label="Password"
      description="At least 12 characters. Tell it over another way than e-mail."
      required
      autoComplete="new-password"
      value={value}
      onChange={(event) => change(event.currentTarget.value)}
    />
  );
}
