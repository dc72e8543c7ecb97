import { Box, SimpleGrid, Text } from "@mantine/core";
import type { ReactNode } from "react";

import classes from "@/components/Facts.module.css";

export type Fact = readonly [name: string, value: ReactNode];

/** Names and values, one a line. */
export function Facts({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl className={classes.facts}>
      {facts.map(([name, value]) => (
        <div key={name} className={classes.fact}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A few numbers that say how things are, large. */
export function Figures({ figures, cols }: { figures: readonly Figure[]; cols?: number }) {
  return (
    <SimpleGrid cols={{ base: 2, md: cols ?? figures.length }} spacing="md">
      {figures.map((figure) => (
        <Box key={figure.name} className="panel" p="md">
          <Text size="sm" c="dimmed">
            {figure.name}
          </Text>
          <Text className={classes.figure} component="div" {...(figure.colour ? { c: figure.colour } : {})}>
            {figure.value}
          </Text>
          {figure.note !== undefined && (
            <Text size="xs" c="dimmed" component="div">
              {figure.note}
            </Text>
          )}
        </Box>
      ))}
    </SimpleGrid>
  );
}

export interface Figure {
  name: string;
  value: ReactNode;
  note?: ReactNode;
  colour?: string;
}
