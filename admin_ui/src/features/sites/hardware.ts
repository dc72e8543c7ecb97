/** What a site says of its machine, as people read it. */
import type { Schema } from "@/api/types";
import { plural } from "@/format/words";

export type Hardware = Schema<"Hardware">;

const GIB = 2 ** 30;
const MAKERS = /^(NVIDIA|AMD|Intel|Tesla|GeForce|Radeon|Instinct)\s+/i;
const VARIANT = /[- ](SXM\d?|PCIe?|HBM\w*|\d+\s?GB)\b.*$/i; // how it is built and with how much memory

/** Returns e.g. "8 CPUs, 32 GB, A100 ×2". */
export function formatHardware(hardware: Hardware): string {
  return [plural(hardware.cpus, "CPU"), formatMemory(hardware.memory_bytes), ...formatGpus(hardware.gpus ?? [])]
    .filter((part) => part !== null)
    .join(", ");
}

/** Returns memory in powers of 1024, as memory is sold: "32 GB"; null where the site does not say. */
export function formatMemory(bytes: number): string | null {
  if (bytes === 0) return null;
  const size = bytes / GIB;
  return `${size >= 10 ? Math.round(size) : Number(size.toFixed(1))} GB`;
}

/** Returns each kind of GPU once, with how many there are: ["A100 ×2", "L4"]. */
export function formatGpus(names: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const name of names) {
    const short = shortGpu(name);
    counts.set(short, (counts.get(short) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`));
}

/** Returns "A100" of "NVIDIA A100-SXM4-80GB", "RTX 4090" of "NVIDIA GeForce RTX 4090". */
export function shortGpu(name: string): string {
  let short = name.trim();
  while (MAKERS.test(short)) short = short.replace(MAKERS, "");
  return short.replace(VARIANT, "") || name.trim();
}
