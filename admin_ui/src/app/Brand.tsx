import { Group, Text } from "@mantine/core";

/** The mark and the name. */
export function Brand({ large = false }: { large?: boolean }) {
  const size = large ? 38 : 28;
  return (
    <Group gap={large ? 12 : 9} wrap="nowrap">
      <svg viewBox="0 0 32 32" width={size} height={size} aria-hidden>
        <rect width="32" height="32" rx="7" fill="#00626b" />
        <path
          d="M8 22c2.7 2.4 5.3 2.4 8 0s5.3-2.4 8 0"
          fill="none"
          stroke="#8fd6dc"
          strokeWidth="2.4"
          strokeLinecap="round"
        />
        <path d="M10 18V8M22 18V8M10 13h12" fill="none" stroke="#fff" strokeWidth="3" strokeLinecap="round" />
      </svg>
      <Text fw={680} fz={large ? 24 : 18} lh={1}>
        Hansa
      </Text>
    </Group>
  );
}
