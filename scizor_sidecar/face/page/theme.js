// Chooses light or dark before the first paint: what was chosen here last, else what the system has.
"use strict";
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("scizor-theme");
  } catch {
    // Storage may be switched off; the system's choice does.
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    document.documentElement.dataset.theme = kept ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  };
  system.addEventListener("change", apply);
  window.switchTheme = () => {
    kept = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("scizor-theme", kept);
    } catch {
      // It holds for this page then.
    }
    apply();
  };
  apply();
})();
