import { describe, expect, it } from "vitest";

import type { Event } from "@/api/types";
import { isDetail, pathOf, subjectOf, titleOf } from "@/features/federations/activity";

function event(kind: string, data: Event["data"] = {}, runId: string | null = null): Event {
  return { id: 1, kind, at: "2026-05-01T12:00:00Z", data, run_id: runId };
}

describe("an event", () => {
  it("is told in words", () => {
    const told = event("round.completed", { round_number: 3, by: "ada@example.org" }, "r1");
    expect(titleOf(told)).toBe("Round completed");
    expect(subjectOf(told)).toBe("round 3 · by ada@example.org");
    expect(pathOf(told)).toBe("runs/r1?round=3");
  });

  it("leads to its site", () => {
    expect(pathOf(event("site.enrolled", { site_id: "s1", name: "oslo" }))).toBe("sites/s1");
    expect(pathOf(event("duty.refused"))).toBeNull();
  });

  it("is a detail where its round tells as much", () => {
    expect(isDetail(event("task.done"))).toBe(true);
    expect(isDetail(event("task.failed"))).toBe(false);
    expect(isDetail(event("round.completed"))).toBe(false);
  });
});
