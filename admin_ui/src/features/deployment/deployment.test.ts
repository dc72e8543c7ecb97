import { describe, expect, it } from "vitest";

import type { Deployment } from "@/features/deployment/deployment";
import { judge } from "@/features/deployment/deployment";

const WELL: Deployment = {
  checked_at: "2026-05-01T12:00:00Z",
  hub: { version: "0.1.0", python: "3.11.9", started_at: "2026-05-01T11:00:00Z", public_url: "https://hub.example.org", host: "hub-1" },
  database: {
    ok: true, detail: null, seconds: 0.01, version: "18.6", size_bytes: 1, connections: 5, max_connections: 100,
    migration: "0005", newest_migration: "0005",
  },
  broker: { ok: true, detail: null, seconds: 0.01, version: "9.1", memory_bytes: 1, queues: [] },
  workers: [{ name: "w1", concurrency: 2, active: 0, processed: 9, uptime_seconds: 60 }],
  workers_detail: null,
  store: { ok: true, detail: null, seconds: 0.01, kind: "file", free_bytes: 90, total_bytes: 100, artifacts: 1, artifact_bytes: 1 },
  work: {
    ok: true, detail: null, seconds: 0.01, aggregations_waiting: 0, aggregations_running: 0, deliveries_waiting: 0,
    oldest_waiting_seconds: null, last_sweep_at: null,
  },
};

describe("the verdict on a deployment", () => {
  it("finds nothing where all is well", () => expect(judge(WELL)).toEqual({ isWell: true, words: [] }));

  it.each([
    [{ ...WELL, workers: [] }, "No worker"],
    [{ ...WELL, broker: { ...WELL.broker, ok: false, detail: "refused" }, workers: [] }, "broker does not answer: refused"],
    [{ ...WELL, database: { ...WELL.database, migration: "0004" } }, "0004"],
    [{ ...WELL, database: { ...WELL.database, connections: 95 } }, "95 of the database's 100"],
    [{ ...WELL, store: { ...WELL.store, free_bytes: 9 } }, "tenth"],
    [{ ...WELL, work: { ...WELL.work, oldest_waiting_seconds: 500 } }, "8 min 20 s"],
  ])("names what is wrong", (deployment, word) => {
    const verdict = judge(deployment);
    expect(verdict.isWell).toBe(false);
    expect(verdict.words).toHaveLength(1);
    expect(verdict.words[0]).toContain(word);
  });
});
