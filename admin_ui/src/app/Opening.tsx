import { Center, Loader } from "@mantine/core";

/** Shown while the console itself is on its way. */
export function Opening() {
  return (
    <Center h="100dvh">
      <Loader aria-label="Loading" />
    </Center>
  );
}
