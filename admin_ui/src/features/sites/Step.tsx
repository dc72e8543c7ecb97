import { Text, Title } from "@mantine/core";
import { IconCheck } from "@tabler/icons-react";
import type { ReactNode } from "react";

import classes from "@/features/sites/Step.module.css";

export type Stage = "done" | "now" | "later";

interface Props {
  number: number;
  title: string;
  stage: Stage;
  summary?: ReactNode; // a line below the title
  children?: ReactNode;
}

const SPOKEN: Record<Stage, string | undefined> = { done: "Done", now: "Now", later: undefined };

/** One step of a sequence, with what was done or is to do. */
export function Step({ number, title, stage, summary, children }: Props) {
  return (
    <section className={classes.step} data-stage={stage} aria-current={stage === "now" ? "step" : undefined}>
      <div className={classes.rail}>
        <span className={classes.number}>
          {stage === "done" ? <IconCheck size={17} stroke={2.4} aria-label={SPOKEN.done} /> : number}
        </span>
      </div>
      <div className={classes.content}>
        <Title order={2} className={classes.title}>
          {title}
        </Title>
        {summary && (
          <Text size="sm" c="dimmed" component="div" mt={2}>
            {summary}
          </Text>
        )}
        {children && <div style={{ marginTop: 12 }}>{children}</div>}
      </div>
    </section>
  );
}
