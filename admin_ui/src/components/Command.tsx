import { ActionIcon, Box, CopyButton, ScrollArea, Tooltip } from "@mantine/core";
import type { BoxProps } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";

import classes from "@/components/Command.module.css";

interface Props extends BoxProps {
  text: string;
  label?: string; // what a screen reader calls the button
}

/** Text to paste somewhere else, with a button that copies it. */
export function Command({ text, label = "Copy the command", ...box }: Props) {
  return (
    <Box className={classes.command} {...box}>
      <ScrollArea type="auto" scrollbarSize={6} viewportProps={{ tabIndex: 0 }}>
        <pre className={classes.text}>{text}</pre>
      </ScrollArea>
      <Copy text={text} label={label} />
    </Box>
  );
}

/** A button that copies `text`. */
export function Copy({ text, label }: { text: string; label: string }) {
  return (
    <CopyButton value={text} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : label}>
          <ActionIcon
            variant="subtle"
            color={copied ? "green" : "gray"}
            onClick={(event) => {
              event.stopPropagation();
              copy();
            }}
            aria-label={label}
          >
            {copied ? <IconCheck size={15} /> : <IconCopy size={15} />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}
