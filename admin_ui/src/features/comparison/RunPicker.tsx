/** The runs that are compared, and one more by its name. */
import { CloseButton, Select, Text, getThemeColor, useMantineTheme } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";
import { Link } from "react-router";

import { useListing } from "@/api/paging";
import type { Run } from "@/api/types";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import classes from "@/features/comparison/comparison.module.css";
import { MOST_RUNS } from "@/features/comparison/comparison";
import { useSlug } from "@/features/federations/federations";
import { runsListing } from "@/features/runs/runs";
import { plural } from "@/format/words";

interface Props {
  runs: readonly Run[];
  names: readonly string[]; // that tell them apart
  colours: readonly string[];
  chosen: readonly string[]; // ids, of those too that have not come yet
  choose: (ids: string[]) => void;
}

export function RunPicker({ runs, names, colours, chosen, choose }: Props) {
  const slug = useSlug();
  const theme = useMantineTheme();
  return (
    <div className={classes.picked}>
      {runs.map((run, index) => (
        <div key={run.id} className={classes.run}>
          <span
            className={classes.swatch}
            style={{ background: getThemeColor(colours[index], theme) }}
            aria-hidden
          />
          <Text component={Link} to={`/f/${slug}/runs/${run.id}`} size="sm" fw={560} c="inherit" td="none">
            {names[index]}
          </Text>
          <StateBadge look={RUN_STATES[run.state]} size="xs" />
          <CloseButton
            size="sm"
            aria-label={`Leave out ${names[index] ?? run.name}`}
            onClick={() => choose(chosen.filter((id) => id !== run.id))}
          />
        </div>
      ))}
      {chosen.length < MOST_RUNS && <OneMore chosen={chosen} choose={choose} />}
    </div>
  );
}

function OneMore({ chosen, choose }: Pick<Props, "chosen" | "choose">) {
  const [typed, setTyped] = useState("");
  const [named] = useDebouncedValue(typed.trim(), 250);
  // Runs are found by the hub, however many there are; the newest are offered at first.
  const found = useListing(runsListing(useSlug(), { named: named || undefined }), { all: false });
  return (
    <Select
      aria-label="Add a run"
      placeholder="Add a run"
      leftSection={<IconSearch size={15} aria-hidden />}
      w={260}
      value={null}
      searchable
      searchValue={typed}
      onSearchChange={setTyped}
      filter={({ options }) => options}
      maxDropdownHeight={340}
      nothingFoundMessage={found.isPending ? "Looking" : "No run has such a name"}
      data={found.items
        .filter((run) => !chosen.includes(run.id))
        .map((run) => ({ value: run.id, label: run.name, run }))}
      renderOption={({ option }) => {
        const run = found.items.find((one) => one.id === option.value);
        return (
          <div>
            <Text size="sm">{option.label}</Text>
            {run && (
              <Text size="xs" c="dimmed">
                {run.plan.model} · {RUN_STATES[run.state].label} · {plural(run.rounds_completed, "round")}
              </Text>
            )}
          </div>
        );
      }}
      onChange={(id) => {
        if (id !== null) choose([...chosen, id]);
        setTyped("");
      }}
    />
  );
}
