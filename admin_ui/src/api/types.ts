/** Short names of the API's types. All are generated; none is written here. */
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Schema<Name extends keyof Schemas> = Schemas[Name];

export type Alert = Schema<"Alert">;
export type Checkpoint = Schema<"Checkpoint">;
export type Event = Schema<"Event">;
export type Federation = Schema<"Federation">;
export type Model = Schema<"Model">;
export type Round = Schema<"Round">;
export type RoundDetail = Schema<"RoundDetail">;
export type Run = Schema<"Run">;
export type RunPlan = Schema<"RunPlan">;
export type Site = Schema<"Site">;
export type TaskView = Schema<"TaskView">;
export type User = Schema<"User">;
