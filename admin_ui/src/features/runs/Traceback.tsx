import { ScrollArea, Text } from "@mantine/core";

import { Copy } from "@/components/Command";
import classes from "@/features/runs/Traceback.module.css";

interface Props {
  traceback: string | null;
  log: string | null;
  site: string;
}

/** What a site told of its failure: the traceback, and the last lines of its log. */
export function Traceback({ traceback, log, site }: Props) {
  return (
    <>
      {traceback && <Block title={`Traceback at ${site}`} text={traceback} />}
      {log && <Block title={`End of the log at ${site}`} text={log} />}
    </>
  );
}

function Block({ title, text }: { title: string; text: string }) {
  return (
    <div className={classes.block}>
      <div className={classes.head}>
        <Text size="xs" fw={560}>
          {title}
        </Text>
        <Copy text={text} label="Copy the text" />
      </div>
      <ScrollArea.Autosize mah={320} type="auto" viewportProps={{ tabIndex: 0, "aria-label": title, role: "region" }}>
        <pre className={classes.text}>{text.trimEnd()}</pre>
      </ScrollArea.Autosize>
    </div>
  );
}
