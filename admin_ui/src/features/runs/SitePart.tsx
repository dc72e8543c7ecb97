import { Collapse, Progress, Text, UnstyledButton } from "@mantine/core";
import { IconChevronRight } from "@tabler/icons-react";
import { useState } from "react";
import { Link } from "react-router";

import type { TaskView } from "@/api/types";
import { StateBadge } from "@/components/StateBadge";
import { Ago, Bytes, Digest, Lasted } from "@/components/values";
import classes from "@/features/runs/SitePart.module.css";
import { Traceback } from "@/features/runs/Traceback";
import { fractionOf, partLook } from "@/features/runs/parts";
import { formatCount, formatMetric, formatShare } from "@/format/sizes";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  task: TaskView;
  opened?: boolean;
}

/** One site's part in a round: how far it is, and behind it all that is known of it. */
export function SitePart({ slug, task, opened = false }: Props) {
  const [isOpen, setOpen] = useState(opened);
  const look = partLook(task);
  const fraction = fractionOf(task);
  const isMoving = task.state === "claimed" && fraction !== null;
  return (
    <li className={classes.part}>
      <UnstyledButton
        className={classes.row}
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        <IconChevronRight size={14} className={classes.chevron} data-open={isOpen || undefined} aria-hidden />
        <span className={classes.name}>
          {task.site_name}
          {task.evaluator && <span className={classes.kind}> evaluates</span>}
          {task.repeat > 1 && <span className={classes.kind}> update {task.repeat}</span>}
        </span>
        <span className={classes.standing}>
          {isMoving ? (
            <>
              <Progress value={100 * fractionOrNone(fraction)} size={6} className={classes.progress} aria-hidden />
              <span className={classes.share}>{formatShare(fractionOrNone(fraction))}</span>
            </>
          ) : (
            <Note task={task} />
          )}
        </span>
        <StateBadge look={look} />
      </UnstyledButton>
      <Collapse expanded={isOpen} transitionDuration={120}>
        {isOpen && <Details slug={slug} task={task} />}
      </Collapse>
    </li>
  );
}

function fractionOrNone(fraction: number | null): number {
  return fraction ?? 0;
}

/** What there is to say in a line of a part that is not under way. */
function Note({ task }: { task: TaskView }) {
  if (task.state === "done") {
    return (
      <span className={classes.note}>
        {/* A site of a secure run tells none: its update counts as one. */}
        {task.num_examples !== null && task.num_examples > 1 && `${formatCount(task.num_examples)} examples`}
      </span>
    );
  }
  const said = task.state_reason ?? (task.state === "open" ? "not begun" : "");
  return (
    <span className={classes.note} title={said}>
      {said}
    </span>
  );
}

function Details({ slug, task }: { slug: string; task: TaskView }) {
  const metrics = Object.entries(task.progress?.metrics ?? {});
  return (
    <div className={classes.details}>
      {task.state_reason !== null && <Text size="sm">{task.state_reason}</Text>}
      <dl className={classes.facts}>
        <Fact name="Site">
          <Link to={`/f/${slug}/sites/${task.site_id}`} className={classes.link}>
            {task.site_name}
          </Link>
        </Fact>
        <Fact name="Asked">
          <Ago at={task.created_at} />
        </Fact>
        {task.claimed_at !== null && (
          <Fact name={task.finished_at === null ? "At work for" : "Worked for"}>
            <Lasted from={task.claimed_at} to={task.finished_at} />
          </Fact>
        )}
        {task.attempts > 1 && <Fact name="Claims">{plural(task.attempts, "claim")}, earlier leases ran out</Fact>}
        {task.num_examples !== null && <Fact name="Examples">{formatCount(task.num_examples)}</Fact>}
        {task.update_size !== null && (
          <Fact name="Size">
            <Bytes value={task.update_size} />
          </Fact>
        )}
        {task.update_digest !== null && (
          <Fact name="Update">
            <Digest value={task.update_digest} />
          </Fact>
        )}
        {metrics.map(([name, value]) => (
          <Fact key={name} name={name}>
            {formatMetric(value)}
          </Fact>
        ))}
      </dl>
      <Traceback traceback={task.traceback} log={task.log ?? null} site={task.site_name} />
    </div>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
