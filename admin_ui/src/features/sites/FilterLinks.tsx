import { Link } from "react-router";

import classes from "@/features/sites/parts.module.css";
import { formatCount } from "@/format/sizes";

export interface FilterLink {
  label: string;
  search: string; // of the address that it leads to
  count?: number;
  selected: boolean;
}

/** Choices that are links: the one in force is marked, each can say how many it leaves. */
export function FilterLinks({ label, links }: { label: string; links: readonly FilterLink[] }) {
  return (
    <nav className={classes.links} aria-label={label}>
      {links.map((link) => (
        <Link
          key={link.label}
          to={{ search: link.search }}
          replace
          preventScrollReset
          className={classes.link}
          {...(link.selected ? { "aria-current": "true" as const } : {})}
        >
          {link.label}
          {link.count !== undefined && <span className={classes.count}>{formatCount(link.count)}</span>}
        </Link>
      ))}
    </nav>
  );
}

/** Returns an address's search with some of its values replaced; null takes one away. */
export function replaced(search: URLSearchParams, changes: Record<string, string | null>): string {
  const next = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  }
  return next.toString();
}
