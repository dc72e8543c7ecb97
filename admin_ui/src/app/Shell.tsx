/** The frame around every page: where you are, where you can go, whether the page is live. */
import {
  ActionIcon,
  AppShell,
  Burger,
  Group,
  Menu,
  NavLink,
  ScrollArea,
  Text,
  Tooltip,
  UnstyledButton,
  VisuallyHidden,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { TablerIcon } from "@tabler/icons-react";
import { IconChevronDown, IconLogout, IconMoon, IconSun } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { Suspense, useEffect } from "react";
import { Link, NavLink as RouterLink, Outlet, useLocation } from "react-router";

import { Brand } from "@/app/Brand";
import { ErrorBoundary } from "@/app/ErrorBoundary";
import classes from "@/app/Shell.module.css";
import { Loading } from "@/components/QueryView";
import { useSignOut, useUser } from "@/features/session/session";

export interface Place {
  label: string;
  to: string;
  icon: TablerIcon;
  end?: boolean; // only this very path is here
  note?: string; // a count, shown to the right
  alarming?: boolean;
}

export interface PlaceGroup {
  title: string;
  places: Place[];
}

interface Props {
  groups: PlaceGroup[];
  head?: ReactNode; // above the groups: the federation
  status?: ReactNode; // in the header: the connection
  refusal?: ReactNode; // in place of the page
}

export function Shell({ groups, head, status, refusal }: Props) {
  const [opened, { toggle, close }] = useDisclosure(false);
  const { pathname } = useLocation();
  useEffect(close, [pathname, close]);
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 236, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding={{ base: "md", md: "xl" }}
      classNames={{ header: classes.header, navbar: classes.navbar }}
    >
      <button
        type="button"
        className="skip"
        onClick={() => document.querySelector<HTMLElement>("main")?.focus()}
      >
        Skip to the page
      </button>
      <AppShell.Header px="md">
        <Group h="100%" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="Navigation" />
            <UnstyledButton component={Link} to="/" aria-label="Hansa: all federations">
              <Brand />
            </UnstyledButton>
          </Group>
          <Group gap="xs" wrap="nowrap">
            {status}
            <SchemeSwitch />
            <Person />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="sm" aria-label="Pages">
        {head}
        <AppShell.Section grow component={ScrollArea} type="never">
          {groups.map((group) => (
            <div key={group.title} className={classes.group}>
              <Text size="xs" c="dimmed" fw={560} px={10} pb={4}>
                {group.title}
              </Text>
              {group.places.map((place) => (
                <PlaceLink key={place.to} place={place} />
              ))}
            </div>
          ))}
        </AppShell.Section>
      </AppShell.Navbar>
      <AppShell.Main tabIndex={-1} className={classes.main}>
        <ErrorBoundary key={pathname}>
          <Suspense fallback={<Loading rows={8} />}>{refusal ?? <Outlet />}</Suspense>
        </ErrorBoundary>
      </AppShell.Main>
    </AppShell>
  );
}

function PlaceLink({ place }: { place: Place }) {
  const Icon = place.icon;
  return (
    <NavLink
      component={RouterLink}
      to={place.to}
      end={place.end ?? false}
      label={place.label}
      className={classes.place ?? ""}
      leftSection={<Icon size={18} stroke={1.7} aria-hidden />}
      rightSection={
        place.note === undefined ? null : (
          <span className={place.alarming ? classes.alarm : classes.note}>{place.note}</span>
        )
      }
    />
  );
}

function SchemeSwitch() {
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const other = scheme === "dark" ? "light" : "dark";
  return (
    <Tooltip label={`Use the ${other} colours`}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size="lg"
        aria-label={`Use the ${other} colours`}
        onClick={() => setColorScheme(other)}
      >
        {scheme === "dark" ? <IconSun size={18} stroke={1.7} /> : <IconMoon size={18} stroke={1.7} />}
      </ActionIcon>
    </Tooltip>
  );
}

function Person() {
  const user = useUser();
  const signOut = useSignOut();
  return (
    <Menu position="bottom-end" width={220}>
      <Menu.Target>
        <UnstyledButton className={classes.person}>
          <span className={classes.initials} aria-hidden>
            {initials(user.name)}
          </span>
          <Text size="sm" visibleFrom="sm">
            {user.name}
          </Text>
          <VisuallyHidden>signed in as {user.email}</VisuallyHidden>
          <IconChevronDown size={14} aria-hidden />
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{user.email}</Menu.Label>
        <Menu.Item component={Link} to="/tokens">
          API tokens
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item leftSection={<IconLogout size={15} />} onClick={() => void signOut()}>
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function initials(name: string): string {
  const words = name.split(/\s+/).filter(Boolean);
  return words
    .slice(0, 2)
    .map((word) => word.charAt(0).toUpperCase())
    .join("");
}
