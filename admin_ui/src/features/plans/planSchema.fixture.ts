/** A piece of the schema that GET /v1/plan-schema gives: each shape that there is, once. */
import type { JsonObject } from "@/features/plans/json";

const NAME = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$";

export const SCHEMA: JsonObject = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  $defs: {
    CohortChoice: { enum: ["all", "random", "weighted", "stratified"], title: "CohortChoice", type: "string" },
    CohortPlan: {
      additionalProperties: false,
      description: "Who is admitted to a round.",
      properties: {
        min_sites: {
          default: 2,
          description: "fewest sites whose updates make a round",
          maximum: 10000,
          minimum: 1,
          title: "Min sites",
          type: "integer",
        },
        choose: { $ref: "#/$defs/CohortChoice", default: "all", description: "how sites are taken", title: "Choose" },
        size: {
          anyOf: [{ maximum: 10000, minimum: 1, type: "integer" }, { type: "null" }],
          default: null,
          description: "answers wanted; None: everybody's",
          title: "Size",
        },
        over_select: { default: 0, description: "ask so many more", minimum: 0, title: "Over-selection", type: "integer" },
        pinned: {
          default: [],
          description: "sites that are in every round",
          items: { pattern: NAME, type: "string" },
          maxItems: 1000,
          title: "Pinned",
          type: "array",
        },
        labels: {
          additionalProperties: { type: "string" },
          default: {},
          description: "only sites that carry these labels",
          title: "Labels",
          type: "object",
        },
        hardware: {
          $ref: "#/$defs/HardwareFloor",
          default: { cpus: 0, gpus: 0 },
          description: "only sites whose machine has at least this",
          title: "Hardware",
        },
      },
      title: "Cohort",
      type: "object",
    },
    FedAdamPlan: {
      description: "Adam on the server.",
      properties: {
        name: { const: "fedadam", description: "the strategy", title: "Name", type: "string" },
        lr: { default: 0.01, description: "step size", exclusiveMinimum: 0, maximum: 100, title: "Learning rate", type: "number" },
      },
      required: ["name"],
      title: "fedadam",
      type: "object",
    },
    FedAvgPlan: {
      description: "The mean of deltas.",
      properties: { name: { const: "fedavg", default: "fedavg", title: "Name", type: "string" } },
      title: "fedavg",
      type: "object",
    },
    FedProxPlan: {
      description: "Drawn back to the global model.",
      properties: {
        name: { const: "fedprox", title: "Name", type: "string" },
        mu: { description: "strength of the proximal term", maximum: 1000000, minimum: 0, title: "Mu", type: "number" },
      },
      required: ["name", "mu"],
      title: "fedprox",
      type: "object",
    },
    HardwareFloor: {
      properties: {
        cpus: { default: 0, description: "fewest CPUs", minimum: 0, title: "CPUs", type: "integer" },
        gpus: { default: 0, description: "fewest GPUs", minimum: 0, title: "GPUs", type: "integer" },
      },
      title: "Hardware floor",
      type: "object",
    },
    JsonValue: {},
    SecurePlan: {
      description: "Secure aggregation: the hub learns sums over sites.",
      properties: {
        lanes: { default: 3, description: "values to a word", enum: [2, 3, 4, 5], title: "Lanes", type: "integer" },
        site_metrics: { default: false, description: "show them", title: "Site metrics", type: "boolean" },
      },
      title: "Secure",
      type: "object",
    },
    TensorGroupPlan: {
      properties: {
        name: { description: "what it is called", pattern: NAME, title: "Name", type: "string" },
        tensors: { description: "patterns", items: { type: "string" }, title: "Tensors", type: "array" },
      },
      required: ["name", "tensors"],
      title: "Tensor group",
      type: "object",
    },
    TensorsPlan: {
      properties: {
        groups: {
          default: [],
          description: "trained by some of the sites alone",
          items: { $ref: "#/$defs/TensorGroupPlan" },
          title: "Groups",
          type: "array",
        },
      },
      title: "Tensors",
      type: "object",
    },
  },
  properties: {
    name: { description: "what the run is called", pattern: NAME, title: "Name", type: "string" },
    model: { description: "a model of the federation", pattern: NAME, title: "Model", type: "string" },
    seed: { default: 0, exclusiveMaximum: 9223372036854775808, minimum: 0, title: "Seed", type: "integer" },
    rounds: { description: "training rounds", maximum: 100000, minimum: 0, title: "Rounds", type: "integer" },
    cohort: {
      $ref: "#/$defs/CohortPlan",
      default: { min_sites: 2, choose: "all", size: null, over_select: 0, pinned: [], labels: {}, hardware: { cpus: 0, gpus: 0 } },
      description: "which sites take part",
      title: "Cohort",
    },
    strategy: {
      default: { name: "fedavg" },
      description: "how answers become a checkpoint",
      discriminator: {
        mapping: { fedadam: "#/$defs/FedAdamPlan", fedavg: "#/$defs/FedAvgPlan", fedprox: "#/$defs/FedProxPlan" },
        propertyName: "name",
      },
      oneOf: [{ $ref: "#/$defs/FedAvgPlan" }, { $ref: "#/$defs/FedAdamPlan" }, { $ref: "#/$defs/FedProxPlan" }],
      title: "Strategy",
    },
    tensors: { $ref: "#/$defs/TensorsPlan", default: { groups: [] }, description: "which are shared", title: "Tensors" },
    secure: {
      anyOf: [{ $ref: "#/$defs/SecurePlan" }, { type: "null" }],
      default: null,
      description: "the hub learns sums alone",
      title: "Secure",
    },
    training: {
      additionalProperties: { $ref: "#/$defs/JsonValue" },
      default: {},
      description: "handed to every site's trainer",
      title: "Training",
      type: "object",
    },
    novelty: { description: "of a later hub", title: "Novelty" },
  },
  required: ["name", "model", "rounds"],
  title: "Run",
  type: "object",
};
