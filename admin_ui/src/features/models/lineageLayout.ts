/** Where the runs and bases of a model stand in its lineage. Pure. */
import type { LineageRun } from "@/features/models/models";

export const NODE = { width: 212, height: 74 } as const;
export const GAP = { x: 54, y: 16 } as const;
const MARGIN = 4;

export interface PlacedNode {
  key: string;
  node: LineageRun;
  parent: PlacedNode | null;
  column: number;
  row: number;
  x: number; // px, of its left upper corner
  y: number;
}

export interface Placed {
  nodes: PlacedNode[]; // in the order of the lineage: oldest first
  edges: { key: string; path: string }[]; // SVG paths
  width: number;
  height: number;
}

/** Returns what a node is known by: a run by its id, an uploaded file by its checkpoint. */
export function keyOf(node: LineageRun): string {
  return node.run_id ?? node.latest_checkpoint_id;
}

/** Returns the key of what a node comes from; null for a beginning. */
export function parentKeyOf(node: LineageRun): string | null {
  return node.from_run_id ?? node.from_checkpoint_id;
}

/**
 * Lays a lineage out: generations are columns, and what goes on from something stands in its row;
 * every further one of its descendants begins a row below.
 */
export function place(lineage: readonly LineageRun[]): Placed {
  const byKey = new Map(lineage.map((node) => [keyOf(node), node]));
  const children = new Map<string | null, LineageRun[]>();
  for (const node of lineage) {
    const from = parentKeyOf(node);
    const parent = from !== null && from !== keyOf(node) && byKey.has(from) ? from : null;
    children.set(parent, [...(children.get(parent) ?? []), node]);
  }
  const placed = new Map<string, PlacedNode>();
  let rows = 0;
  // Depth first, by a stack: a lineage may be a thousand runs deep.
  const stack = (children.get(null) ?? []).toReversed().map((node) => ({ node, parent: null as PlacedNode | null, isFirst: false }));
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { node, parent, isFirst } = next;
    const column = parent === null ? 0 : parent.column + 1;
    const row = isFirst && parent !== null ? parent.row : rows++;
    const key = keyOf(node);
    const one = {
      key,
      node,
      parent,
      column,
      row,
      x: MARGIN + column * (NODE.width + GAP.x),
      y: MARGIN + row * (NODE.height + GAP.y),
    };
    placed.set(key, one);
    const below = children.get(key) ?? [];
    below.toReversed().forEach((child, at) => stack.push({ node: child, parent: one, isFirst: at === below.length - 1 }));
  }
  const nodes = lineage.flatMap((node) => placed.get(keyOf(node)) ?? []);
  const columns = Math.max(0, ...nodes.map((one) => one.column + 1));
  return {
    nodes,
    edges: nodes.flatMap((one) => (one.parent === null ? [] : [{ key: one.key, path: edge(one.parent, one) }])),
    width: 2 * MARGIN + columns * NODE.width + Math.max(0, columns - 1) * GAP.x,
    height: 2 * MARGIN + rows * NODE.height + Math.max(0, rows - 1) * GAP.y,
  };
}

/** From the right side of one node to the left side of another. */
function edge(from: PlacedNode, to: PlacedNode): string {
  const [x1, y1] = [from.x + NODE.width, from.y + NODE.height / 2];
  const [x2, y2] = [to.x, to.y + NODE.height / 2];
  if (y1 === y2) return `M${x1} ${y1}H${x2}`;
  const middle = x1 + GAP.x / 2;
  const radius = 10;
  return `M${x1} ${y1}H${middle - radius}Q${middle} ${y1} ${middle} ${y1 + radius}V${y2 - radius}Q${middle} ${y2} ${middle + radius} ${y2}H${x2}`;
}

/** Returns what a node comes from, for who does not see the lines. */
export function tellParent({ parent }: PlacedNode): string {
  if (parent === null) return "a beginning";
  return `goes on from ${parent.node.run_name === null ? "an uploaded base" : `run ${parent.node.run_name}`}`;
}

/** Returns "rounds 1 to 12", "no round yet". */
export function roundsOf(node: LineageRun): string {
  if (node.checkpoints === 0) return "no checkpoint yet";
  return node.first === node.last ? `round ${node.last}` : `rounds ${node.first} to ${node.last}`;
}
