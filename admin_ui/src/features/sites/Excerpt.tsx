import { Text } from "@mantine/core";

import { Copy } from "@/components/Command";
import classes from "@/features/sites/Excerpt.module.css";

interface Props {
  title: string;
  text: string;
  isError?: boolean; // wraps, in the colour of errors
}

/** Many lines that a machine wrote, scrollable, with a button that copies them. */
export function Excerpt({ title, text, isError = false }: Props) {
  return (
    <div>
      <div className={classes.head}>
        <Text size="xs" fw={560} c="dimmed">
          {title}
        </Text>
        <Copy text={text} label={`Copy the ${title.toLowerCase()}`} />
      </div>
      <pre className={`${classes.text} ${isError ? classes.error : ""}`} tabIndex={0} aria-label={title}>
        {text.trimEnd()}
      </pre>
    </div>
  );
}
