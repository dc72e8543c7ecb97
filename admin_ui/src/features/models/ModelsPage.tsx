export function ModelsPage() { return <p>ModelsPage is being written</p>; }
