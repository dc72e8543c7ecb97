/**
 * A table of any length: only the rows in view are in the page, so a thousand sites scroll as
 * smoothly as ten. Below `sm` a row becomes a card of its columns.
 */
import { Box, Text, UnstyledButton } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import type { ReactNode } from "react";
import { useLayoutEffect, useMemo, useRef, useState } from "react";
import { useNavigate } from "react-router";

import classes from "@/components/DataTable.module.css";

export interface Column<Row> {
  key: string;
  header: string;
  cell: (row: Row) => ReactNode;
  width?: string; // a grid track: "1fr", "minmax(120px, 2fr)", "90px"
  sortBy?: (row: Row) => string | number | null;
  align?: "start" | "end";
  isTitle?: boolean; // heads the card on a phone
  hideHeader?: boolean; // said to screen readers alone
}

export interface Sorting {
  key: string;
  descending: boolean;
}

interface Props<Row> {
  label: string;
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  rowKey: (row: Row) => string;
  href?: (row: Row) => string; // where a click on the row leads; the title's own link is for keyboards
  sorting?: Sorting; // at first
  rowHeight?: number; // about, in px
  detail?: (row: Row) => ReactNode; // below the row, over its whole width; null: nothing
  footer?: ReactNode;
}

const ROW_HEIGHT = 46;
const OVERSCAN = 12;

export function DataTable<Row>(props: Props<Row>) {
  const { rows, columns, rowKey, label, href } = props;
  const [sorting, setSorting] = useState(props.sorting);
  const sorted = useMemo(() => sort(rows, columns, sorting), [rows, columns, sorting]);
  const list = useRef<HTMLDivElement>(null);
  const [offset, setOffset] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setOffset(list.current ? list.current.getBoundingClientRect().top + window.scrollY : 0);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, []);
  const virtual = useWindowVirtualizer({
    count: sorted.length,
    estimateSize: () => props.rowHeight ?? ROW_HEIGHT,
    overscan: OVERSCAN,
    scrollMargin: offset,
    getItemKey: (index) => {
      const row = sorted[index];
      return row === undefined ? index : rowKey(row);
    },
  });
  const navigate = useNavigate();
  const template = columns.map((column) => column.width ?? "minmax(0, 1fr)").join(" ");
  return (
    <Box className={`panel ${classes.table}`}>
      <div role="table" aria-label={label} aria-rowcount={rows.length + 1}>
        <div role="rowgroup" className={classes.head}>
          <div role="row" aria-rowindex={1} className={classes.row} style={{ gridTemplateColumns: template }}>
            {columns.map((column) => (
              <HeaderCell key={column.key} column={column} sorting={sorting} sort={setSorting} />
            ))}
          </div>
        </div>
        <div role="rowgroup" ref={list} className={classes.body} style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const row = sorted[item.index];
            if (row === undefined) return null;
            const to = href?.(row);
            const detail = props.detail?.(row) ?? null;
            return (
              <div
                key={item.key}
                ref={virtual.measureElement}
                data-index={item.index}
                role="row"
                aria-rowindex={item.index + 2}
                className={`${classes.row} ${classes.data} ${to === undefined ? "" : classes.link}`}
                style={{ gridTemplateColumns: template, transform: `translateY(${item.start - offset}px)` }}
                onClick={(event) => {
                  if (to !== undefined && isPlain(event)) void navigate(to);
                }}
              >
                {columns.map((column) => (
                  <div
                    key={column.key}
                    role="cell"
                    className={column.isTitle ? classes.title : classes.cell}
                    data-label={column.hideHeader ? "" : column.header}
                    data-align={column.align}
                  >
                    {column.cell(row)}
                  </div>
                ))}
                {detail !== null && (
                  <div role="cell" aria-colspan={columns.length} className={classes.detail}>
                    {detail}
                  </div>
                )}
              </div>
            );
          })}
        </div>
      </div>
      {props.footer !== undefined && (
        <Text size="xs" c="dimmed" px="md" py="xs" component="div" className={classes.footer}>
          {props.footer}
        </Text>
      )}
    </Box>
  );
}

interface HeaderProps<Row> {
  column: Column<Row>;
  sorting: Sorting | undefined;
  sort: (sorting: Sorting) => void;
}

function HeaderCell<Row>({ column, sorting, sort: choose }: HeaderProps<Row>) {
  const isSorted = sorting?.key === column.key;
  const Arrow = sorting?.descending ? IconArrowDown : IconArrowUp;
  const order = sorting?.descending ? "descending" : "ascending";
  return (
    <div
      role="columnheader"
      className={classes.header}
      data-align={column.align}
      {...(column.sortBy ? { "aria-sort": isSorted ? order : "none" } : {})}
    >
      {column.sortBy ? (
        <UnstyledButton
          className={classes.sort}
          onClick={() => choose({ key: column.key, descending: isSorted ? !sorting.descending : false })}
        >
          {column.header}
          {isSorted && <Arrow size={13} aria-hidden />}
        </UnstyledButton>
      ) : (
        <span className={column.hideHeader ? classes.unseen : undefined}>{column.header}</span>
      )}
    </div>
  );
}

function sort<Row>(rows: readonly Row[], columns: readonly Column<Row>[], sorting: Sorting | undefined): readonly Row[] {
  const by = columns.find((column) => column.key === sorting?.key)?.sortBy;
  if (sorting === undefined || by === undefined) return rows;
  const sign = sorting.descending ? -1 : 1;
  return rows.toSorted((first, second) => {
    const [one, other] = [by(first), by(second)];
    // Nothing comes after everything, in either direction.
    if (one === null || other === null) return one === other ? 0 : one === null ? 1 : -1;
    return sign * compare(one, other);
  });
}

/** Names in the order of their numbers. */
function compare(one: string | number, other: string | number): number {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

/** Whether a click means the row: not a button or a link in it, and no text being selected. */
function isPlain(event: React.MouseEvent): boolean {
  const target = event.target as HTMLElement;
  return target.closest("a, button, input, label") === null && window.getSelection()?.toString() === "";
}
