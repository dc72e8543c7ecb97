/**
 * The plan's JSON Schema as a tree of fields that a form can show.
 *
 * Whatever the hub adds to plans is shown without a change here: what is of no known shape becomes
 * a field of plain JSON.
 */
import type { Json, JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";

interface About {
  key: string;
  title: string;
  help: string; // one sentence, may be empty
  isRequired: boolean;
  isNullable: boolean;
  fallback: Json | undefined; // the default; undefined where there is none
}

export interface NumberShape {
  isWhole: boolean;
  least: number | undefined;
  most: number | undefined;
}

export interface Variant {
  name: string;
  about: string;
  fields: Field[]; // without the name itself
}

export type TextField = About & { kind: "text"; longest: number | undefined };
export type NumberField = About & { kind: "number" } & NumberShape;
export type SwitchField = About & { kind: "switch" };
export type ChoiceField = About & { kind: "choice"; options: (string | number)[] };
export type NamesField = About & { kind: "names"; most: number | undefined };
export type MapField = About & { kind: "map" }; // text by text
export type FreeField = About & { kind: "free" }; // any JSON by text
export type GroupField = About & { kind: "group"; about: string; fields: Field[] };
export type RowsField = About & { kind: "rows"; row: GroupField };
export type VariantsField = About & { kind: "variants"; tag: string; variants: Variant[] };
export type OtherField = About & { kind: "other" };
export type Field =
  | TextField
  | NumberField
  | SwitchField
  | ChoiceField
  | NamesField
  | MapField
  | FreeField
  | GroupField
  | RowsField
  | VariantsField
  | OtherField;

const DEEPEST = 8; // levels of sections; a schema that refers to itself ends here

interface Found {
  node: JsonObject;
  isNullable: boolean;
  about: string; // the description of what was referred to
}

/** Returns the fields of the plan that `schema` describes, in their order. */
export function readSchema(schema: JsonObject): Field[] {
  return new Reader(isObject(schema["$defs"]) ? schema["$defs"] : {}).fields(schema, 0);
}

class Reader {
  constructor(private readonly defs: JsonObject) {}

  fields(node: JsonObject, depth: number): Field[] {
    const required = Array.isArray(node["required"]) ? node["required"] : [];
    const properties = isObject(node["properties"]) ? node["properties"] : {};
    return Object.entries(properties).map(([key, property]) =>
      this.field(key, isObject(property) ? property : {}, required.includes(key), depth),
    );
  }

  private field(key: string, property: JsonObject, isRequired: boolean, depth: number): Field {
    const { node, isNullable, about } = this.resolve(property);
    const base: About = {
      key,
      title: text(property["title"]) ?? text(node["title"]) ?? key,
      help: sentence(text(property["description"]) ?? ""),
      isRequired,
      isNullable,
      fallback: property["default"],
    };
    if (depth >= DEEPEST) return { ...base, kind: "other" };
    if (Array.isArray(node["oneOf"]) && isObject(node["discriminator"])) {
      return this.variants(base, node["oneOf"], text(node["discriminator"]["propertyName"]) ?? "name", depth);
    }
    if (Array.isArray(node["enum"])) return { ...base, kind: "choice", options: node["enum"].filter(isOption) };
    switch (node["type"]) {
      case "string":
        return { ...base, kind: "text", longest: number(node["maxLength"]) };
      case "boolean":
        return { ...base, kind: "switch" };
      case "integer":
      case "number":
        return { ...base, kind: "number", ...shape(node) };
      case "array":
        return this.list(base, node, depth);
      case "object":
        return this.object(base, node, about, depth);
      default:
        return { ...base, kind: "other" };
    }
  }

  private list(base: About, node: JsonObject, depth: number): Field {
    const items = isObject(node["items"]) ? node["items"] : {};
    const row = this.field("", items, false, depth + 1);
    if (row.kind === "text") return { ...base, kind: "names", most: number(node["maxItems"]) };
    if (row.kind === "group") return { ...base, kind: "rows", row };
    return { ...base, kind: "other" };
  }

  private object(base: About, node: JsonObject, about: string, depth: number): Field {
    if (isObject(node["properties"])) {
      return { ...base, kind: "group", about: sentence(about), fields: this.fields(node, depth + 1) };
    }
    const values = node["additionalProperties"];
    const isText = isObject(values) && this.resolve(values).node["type"] === "string";
    return { ...base, kind: isText ? "map" : "free" };
  }

  private variants(base: About, choices: Json[], tag: string, depth: number): Field {
    const variants = choices.filter(isObject).map((choice): Variant => {
      const { node, about } = this.resolve(choice);
      const properties = isObject(node["properties"]) ? node["properties"] : {};
      const tagged = isObject(properties[tag]) ? properties[tag] : {};
      return {
        name: text(tagged["const"]) ?? text(node["title"]) ?? "",
        about: sentence(about || (text(node["description"]) ?? "")),
        fields: this.fields(node, depth + 1).filter((field) => field.key !== tag),
      };
    });
    return { ...base, kind: "variants", tag, variants };
  }

  /** Follows references, and takes the null out of a choice between it and one thing. */
  private resolve(property: JsonObject): Found {
    let node = property;
    let about = "";
    let isNullable = false;
    for (let step = 0; step < DEEPEST; step += 1) {
      const name = text(node["$ref"])?.split("/").at(-1);
      const choices = Array.isArray(node["anyOf"]) ? node["anyOf"].filter(isObject) : [];
      const rest = choices.filter((choice) => choice["type"] !== "null");
      if (name !== undefined) {
        const target = this.defs[name];
        if (!isObject(target)) break;
        about = text(target["description"]) ?? about;
        node = target;
      } else if (choices.length > rest.length && rest.length === 1 && rest[0] !== undefined) {
        isNullable = true;
        node = rest[0];
      } else {
        break;
      }
    }
    return { node, isNullable, about };
  }
}

/** Returns help as a sentence: plans' descriptions begin small, and speak of None and `fields`. */
function sentence(description: string): string {
  const plain = description.replaceAll("`", "").replaceAll(/\bNone\b/g, "empty").trim();
  if (plain === "") return "";
  const begun = plain.charAt(0).toUpperCase() + plain.slice(1);
  return /[.:]$/.test(begun) ? begun : `${begun}.`;
}

function shape(node: JsonObject): NumberShape {
  const isWhole = node["type"] === "integer";
  const above = number(node["exclusiveMinimum"]);
  const below = number(node["exclusiveMaximum"]);
  return {
    isWhole,
    least: number(node["minimum"]) ?? (above !== undefined && isWhole ? above + 1 : above),
    most: number(node["maximum"]) ?? (below !== undefined && isWhole ? below - 1 : below),
  };
}

function text(value: Json | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function number(value: Json | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function isOption(value: Json): value is string | number {
  return typeof value === "string" || typeof value === "number";
}
