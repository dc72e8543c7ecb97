/** One section of the form: its heading says what was changed in it and what is wrong. */
import { Badge, Button, Input, Text, Title, UnstyledButton } from "@mantine/core";
import { IconChevronRight } from "@tabler/icons-react";
import { useId, useState } from "react";
import type { ReactNode } from "react";

import type { Difference } from "@/features/plans/drafts";
import { FieldView } from "@/features/plans/FieldView";
import { useFormAids } from "@/features/plans/formAids";
import type { Json, JsonObject } from "@/features/plans/json";
import { say, valueAt } from "@/features/plans/json";
import type { FormSection, Placed } from "@/features/plans/layout";
import { isShown } from "@/features/plans/layout";
import { errorsAt } from "@/features/plans/planErrors";
import classes from "@/features/plans/plans.module.css";
import { plural } from "@/format/words";

interface Props {
  section: FormSection;
  plan: JsonObject;
  changes: readonly Difference[]; // in this section
  problems: number; // in this section
  isOpen: boolean;
  toggle: () => void;
  onChange: (path: string, value: Json | undefined) => void;
  reset: () => void;
  extras: (unit: Placed) => ReactNode; // what takes the place of a field
}

const MOST_TOLD = 3; // changes in a heading

export function PlanSection(props: Props) {
  const { section, plan, changes, problems, isOpen, toggle } = props;
  const id = useId();
  const { errors } = useFormAids();
  const [askedMore, setAskedMore] = useState(false);
  const more = section.more.filter((unit) => isShown(unit.path, plan));
  const changedMore = changes.filter((change) => more.some((unit) => isWithin(change.path, unit.path))).length;
  const wrongMore = more.some((unit) => [...errors.keys()].some((path) => isWithin(path, unit.path)));
  const showsMore = askedMore || changedMore > 0 || wrongMore;
  const parents = [...new Set([...section.main, ...section.more].map((unit) => unit.path.split(".")))]
    .filter((parts) => parts.length > 1)
    .map((parts) => parts[0] ?? "");
  const general = [...new Set(parents)].flatMap((path) => errorsAt(errors, path));
  return (
    <section className="panel" aria-label={section.title}>
      <Title order={2} fz={16}>
        <UnstyledButton className={classes.heading} aria-expanded={isOpen} aria-controls={id} onClick={toggle}>
          <IconChevronRight size={17} className={classes.chevron} data-open={isOpen} aria-hidden />
          <span className={classes.headingText}>
            <span>{section.title}</span>
            <Text span size="sm" c="dimmed" fw={400}>
              {isOpen || changes.length === 0 ? section.about : summary(section, changes)}
            </Text>
          </span>
          {problems > 0 && (
            <Badge color="red" variant="light" radius="sm" tt="none">
              {plural(problems, "problem")}
            </Badge>
          )}
        </UnstyledButton>
      </Title>
      {isOpen && (
        <div id={id} className={classes.body}>
          {general.length > 0 && <Input.Error size="sm">{general.join(" ")}</Input.Error>}
          <Units {...props} units={section.main.filter((unit) => isShown(unit.path, plan))} />
          {showsMore && <Units {...props} units={more} />}
          {(more.length > 0 || changes.length > 0) && (
            <div>
              {more.length > 0 && changedMore === 0 && !wrongMore && (
                <Button variant="subtle" size="compact-sm" ml={-8} onClick={() => setAskedMore(!askedMore)}>
                  {askedMore ? "Fewer settings" : plural(more.length, "more setting")}
                </Button>
              )}
              {changes.length > 0 && (
                <Button variant="subtle" color="gray" size="compact-sm" ml={-8} onClick={props.reset}>
                  Undo changes here
                </Button>
              )}
            </div>
          )}
        </div>
      )}
    </section>
  );
}

function Units({ units, plan, onChange, extras }: Props & { units: readonly Placed[] }) {
  return (
    <div className={classes.fields}>
      {units.map((unit) => {
        const extra = extras(unit);
        return extra != null ? (
          <div key={unit.path} className={classes.wide}>
            {extra}
          </div>
        ) : (
          <FieldView
            key={unit.path}
            field={unit.field}
            path={unit.path}
            value={valueAt(plan, unit.path.split("."))}
            onChange={(value) => onChange(unit.path, value)}
          />
        );
      })}
    </div>
  );
}

/** Whether a path is a field's own or lies below it. */
export function isWithin(path: string, field: string): boolean {
  return path === field || path.startsWith(`${field}.`);
}

function summary(section: FormSection, changes: readonly Difference[]): string {
  const told = changes.slice(0, MOST_TOLD).map(({ path, after }) => {
    const name = path.split(".").slice(path.startsWith(`${section.id}.`) ? 1 : 0).join(".");
    return `${name.replaceAll("_", " ")}: ${say(after)}`;
  });
  const left = changes.length - told.length;
  return left > 0 ? `${told.join(" · ")} · ${left} more` : told.join(" · ");
}
