/** Where the plans of runs differ; what is the same in all can be shown too. */
import { ScrollArea, Switch, Text } from "@mantine/core";
import { useSearchParams } from "react-router";

import type { Run } from "@/api/types";
import { Panel } from "@/components/Panel";
import classes from "@/features/comparison/comparison.module.css";
import { planRows } from "@/features/comparison/comparison";
import type { Json, JsonObject } from "@/features/plans/json";
import { same, say } from "@/features/plans/json";
import { plural } from "@/format/words";

export function PlanDifferences({ runs, names }: { runs: readonly Run[]; names: readonly string[] }) {
  const [search, setSearch] = useSearchParams();
  const showsAll = search.get("same") === "true";
  const all = planRows(runs.map((run) => run.plan as unknown as JsonObject));
  const differing = all.filter((row) => !row.isSame);
  const rows = showsAll ? all : differing;
  return (
    <Panel
      title="What differs in their plans"
      aside={
        <Switch
          size="sm"
          label="Show what is the same too"
          checked={showsAll}
          onChange={(event) => {
            const isOn = event.currentTarget.checked;
            setSearch(
              (old) => {
                if (isOn) old.set("same", "true");
                else old.delete("same");
                return old;
              },
              { replace: true },
            );
          }}
        />
      }
    >
      {rows.length === 0 ? (
        <Text size="sm" c="dimmed">
          Nothing but their names: {plural(all.length, "field")} are the same. Such runs differ by where they started
          from, and by who took part.
        </Text>
      ) : (
        <ScrollArea type="auto" viewportProps={{ tabIndex: 0, "aria-label": "Plans side by side" }}>
          <table className={classes.table}>
            <thead>
              <tr>
                <td />
                {names.map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.path}>
                  <th scope="row" className="mono">
                    {row.path}
                  </th>
                  {row.values.map((value, at) => (
                    <td key={runs[at]?.id ?? at} className={isOther(row.values, at) ? classes.other : undefined}>
                      {value === undefined ? "–" : say(value)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollArea>
      )}
    </Panel>
  );
}

/** Whether a run's value is not the first run's. */
function isOther(values: readonly (Json | undefined)[], at: number): boolean {
  return at > 0 && !same(values[at], values[0]);
}
