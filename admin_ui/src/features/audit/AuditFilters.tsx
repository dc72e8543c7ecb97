import { Autocomplete, Button, Group, TextInput } from "@mantine/core";
import { IconFilter } from "@tabler/icons-react";
import { useSearchParams } from "react-router";

import type { AuditFilter } from "@/features/audit/audit";
import { PREFIXES } from "@/features/audit/sentences";

interface Props {
  of: keyof typeof PREFIXES;
  filter: AuditFilter;
}

const NAMES = ["actor", "action", "since", "until"] as const;

/** Whose entries, of what kind, and when: what is chosen lies in the address. */
export function AuditFilters({ of, filter }: Props) {
  const [search, setSearch] = useSearchParams();
  const isFiltered = NAMES.some((name) => filter[name] !== "");

  function apply(changes: Partial<AuditFilter>): void {
    const next = new URLSearchParams(search);
    next.delete("entry");
    for (const [name, value] of Object.entries(changes)) {
      if (value.trim() === "") next.delete(name);
      else next.set(name, value.trim());
    }
    if (next.toString() !== search.toString()) setSearch(next, { replace: true, preventScrollReset: true });
  }

  return (
    <form
      role="search"
      aria-label="Entries"
      key={NAMES.map((name) => filter[name]).join("\n")} // the address rules
      onSubmit={(event) => {
        event.preventDefault();
        const data = new FormData(event.currentTarget);
        apply(Object.fromEntries(NAMES.map((name) => [name, formText(data.get(name))])));
      }}
    >
      <Group gap="sm" align="flex-end">
        <TextInput
          name="actor"
          label="Who"
          placeholder={of === "hub" ? "ada@example.org" : "ada@example.org or a site"}
          defaultValue={filter.actor}
          onBlur={(event) => apply({ actor: event.currentTarget.value })}
          w={{ base: "100%", xs: 230 }}
        />
        <Autocomplete
          name="action"
          label="Action begins with"
          placeholder="any, such as site."
          data={PREFIXES[of].map(([value]) => value)}
          renderOption={({ option }) => (
            <span>
              <span className="mono">{option.value}</span> {PREFIXES[of].find(([value]) => value === option.value)?.[1]}
            </span>
          )}
          defaultValue={filter.action}
          onOptionSubmit={(action) => apply({ action })}
          onBlur={(event) => apply({ action: event.currentTarget.value })}
          w={{ base: "100%", xs: 230 }}
        />
        <TextInput
          name="since"
          type="date"
          label="From"
          defaultValue={filter.since}
          onChange={(event) => apply({ since: event.currentTarget.value })}
          w={150}
        />
        <TextInput
          name="until"
          type="date"
          label="To, that day included"
          defaultValue={filter.until}
          onChange={(event) => apply({ until: event.currentTarget.value })}
          w={168}
        />
        <Button type="submit" variant="default" leftSection={<IconFilter size={15} aria-hidden />}>
          Filter
        </Button>
        {isFiltered && (
          <Button variant="subtle" onClick={() => apply({ actor: "", action: "", since: "", until: "" })}>
            All entries
          </Button>
        )}
      </Group>
    </form>
  );
}

function formText(value: FormDataEntryValue | null): string {
  return typeof value === "string" ? value : "";
}
