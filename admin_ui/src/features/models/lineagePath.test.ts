import { expect, it } from "vitest";

import { stretches } from "@/features/models/lineagePath";

function step(run: string | null, round: number | null) {
  return { checkpoint_id: `${run ?? "base"}-${round ?? 0}`, digest: "", run_id: run, run_name: run, round_number: round, created_at: "" };
}

it("joins what one run made", () => {
  const found = stretches([step("b", 2), step("b", 1), step("a", 6), step("a", 5), step("a", 4), step("c", 1), step(null, null), step(null, null)]);
  expect(found.map((one) => one.title)).toEqual([
    "b, rounds 1 to 2",
    "a, rounds 4 to 6",
    "c, round 1",
    "Uploaded base",
    "Uploaded base",
  ]);
  expect(found[1]?.oldest.checkpoint_id).toBe("a-4");
  expect(stretches([])).toEqual([]);
});
