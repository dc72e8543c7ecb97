import { describe, expect, it } from "vitest";

import { formatGpus, formatHardware, formatMemory, shortGpu } from "@/features/sites/hardware";

const GIB = 2 ** 30;

describe("hardware", () => {
  it("tells a machine in a line", () => {
    const gpus = ["NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"];
    expect(formatHardware({ cpus: 8, memory_bytes: 31.3 * GIB, gpus, platform: "" })).toBe("8 CPUs, 31 GB, A100 ×2");
    expect(formatHardware({ cpus: 1, memory_bytes: 0, platform: "" })).toBe("1 CPU");
  });

  it.each([
    [0, null],
    [0.5 * GIB, "0.5 GB"],
    [7.63 * GIB, "7.6 GB"],
    [512 * GIB, "512 GB"],
  ])("tells %d bytes of memory as %s", (bytes, told) => expect(formatMemory(bytes)).toBe(told));

  it.each([
    ["NVIDIA A100-SXM4-80GB", "A100"],
    ["NVIDIA GeForce RTX 4090", "RTX 4090"],
    ["Tesla V100-PCIE-32GB", "V100"],
    ["NVIDIA H100 80GB HBM3", "H100"],
    ["NVIDIA L4", "L4"],
    ["NVIDIA", "NVIDIA"],
  ])("shortens %s to %s", (name, short) => expect(shortGpu(name)).toBe(short));

  it("counts the same kind once", () => {
    expect(formatGpus(["NVIDIA L4", "NVIDIA A100-SXM4-40GB", "NVIDIA L4"])).toEqual(["L4 ×2", "A100"]);
  });
});
