/** Shown while the console itself is on its way: what index.html shows before the scripts have come. */
export function Opening() {
  return (
    <div className="opening" role="status" aria-label="Loading">
      <img src="favicon.svg" width={38} height={38} alt="" />
      <span>Hansa</span>
    </div>
  );
}
