/** What a person does: asked once more where it matters, told when it failed. */
import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation } from "@tanstack/react-query";
import type { UseMutationResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useId, useState } from "react";

import { describe } from "@/api/problems";
import { Problem } from "@/components/Problem";

interface ActionOptions<Input, Output> {
  run: (input: Input) => Promise<Output>;
  done?: string | ((output: Output) => string); // said when it worked
  after?: (output: Output) => unknown; // refetch, navigate
  quiet?: boolean; // the caller shows the error itself
}

/** A mutation whose success and failure the person hears of. */
export function useAction<Input = void, Output = unknown>(
  options: ActionOptions<Input, Output>,
): UseMutationResult<Output, Error, Input> {
  return useMutation<Output, Error, Input>({
    mutationFn: options.run,
    onSuccess: (output) => {
      if (options.done) {
        const message = typeof options.done === "string" ? options.done : options.done(output);
        notifications.show({ message, color: "green" });
      }
      return options.after?.(output);
    },
    onError: (error) => {
      if (options.quiet) return;
      const { title, detail } = describe(error);
      notifications.show({ title, message: detail, color: "red", autoClose: 10_000 });
    },
  });
}

interface ConfirmProps {
  label: string; // of the button, and of the question's button
  title: string; // the question
  children: ReactNode; // what will happen
  run: (reason: string) => Promise<unknown>;
  after?: () => unknown;
  done?: string;
  colour?: string;
  reason?: boolean; // whether a reason can be given
  typed?: string; // a name to be typed first, where it cannot be undone
  variant?: "default" | "light" | "filled" | "subtle";
  size?: "xs" | "sm";
  icon?: ReactNode;
}

/** A button that asks before it acts; the error stays in the question. */
export function ConfirmButton(props: ConfirmProps) {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button
        variant={props.variant ?? "default"}
        size={props.size ?? "sm"}
        leftSection={props.icon}
        onClick={open}
        {...(props.colour ? { color: props.colour } : {})}
      >
        {props.label}
      </Button>
      <Modal opened={opened} onClose={close} title={<Text fw={640}>{props.title}</Text>}>
        <Question {...props} close={close} />
      </Modal>
    </>
  );
}

function Question({ close, ...props }: ConfirmProps & { close: () => void }) {
  const [reason, setReason] = useState("");
  const [typed, setTyped] = useState("");
  const form = useId();
  const action = useAction<string>({
    run: props.run,
    quiet: true,
    ...(props.done === undefined ? {} : { done: props.done }),
    after: () => {
      close();
      return props.after?.();
    },
  });
  return (
    <form
      id={form}
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate(reason);
      }}
    >
      <Stack>
        <Text size="sm" component="div">
          {props.children}
        </Text>
        {props.reason && (
          <TextInput
            label="Reason"
            description="It is kept in the audit log, and told where it matters."
            value={reason}
            maxLength={500}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
        )}
        {props.typed !== undefined && (
          <TextInput
            label={`Type ${props.typed} to go on`}
            value={typed}
            autoComplete="off"
            onChange={(event) => setTyped(event.currentTarget.value)}
          />
        )}
        {action.isError && <Problem error={action.error} />}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            Not now
          </Button>
          <Button
            type="submit"
            color={props.colour ?? "hansa"}
            loading={action.isPending}
            disabled={props.typed !== undefined && typed !== props.typed}
            data-autofocus={props.typed === undefined ? true : undefined}
          >
            {props.label}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
