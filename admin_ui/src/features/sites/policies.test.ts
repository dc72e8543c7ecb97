import { describe, expect, it } from "vitest";

import { featuresInWords, policyInWords } from "@/features/sites/policies";

describe("policies", () => {
  it("tells the usual one", () => {
    const said = policyInWords({ secure_only: false, least_sum: 3, tracebacks: "full", share_log: 40, peers: "first-use" });
    expect(said).toEqual([
      "Takes part in runs without secure aggregation, in which the hub can read its updates.",
      "Refuses secure rounds whose sum may be of fewer than 3 updates.",
      "Trusts another site's key as it is first seen, and refuses a changed one.",
      "Tells of a failure its message and traceback.",
      "Tells with a failure the last 40 lines of its log.",
    ]);
  });

  it("tells a strict one", () => {
    const said = policyInWords({ secure_only: true, tracebacks: "none", share_log: 0, peers: "by-moonlight" });
    expect(said).toEqual([
      "Takes part in secure runs alone: the hub never reads its updates.",
      "Trusts other sites by its mode “by-moonlight”.",
      "Tells of a failure its type alone; message and traceback stay at the site.",
      "Tells no log lines.",
    ]);
  });

  it("names features it has never heard of", () => {
    expect(featuresInWords(["codecs", "time-travel"])).toEqual(["encoded updates", "time travel"]);
  });
});
