import { TagsInput } from "@mantine/core";

import { readLabels } from "@/features/sites/labels";

interface Props {
  label: string;
  description?: string;
  value: string[]; // each "key=value"
  onChange: (value: string[]) => void;
}

/** A field for labels; it says what is wrong with them. */
export function LabelsInput({ label, description, value, onChange }: Props) {
  const { wrong } = readLabels(value);
  return (
    <TagsInput
      label={label}
      description={description ?? "Each as key=value, then Enter."}
      placeholder={value.length === 0 ? "region=nordics" : ""}
      value={value}
      onChange={onChange}
      splitChars={[]}
      error={wrong}
    />
  );
}
