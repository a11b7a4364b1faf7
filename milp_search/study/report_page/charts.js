"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const figures = [...document.querySelectorAll(".figure")].map((place) => ({
    place,
    figure: JSON.parse(place.querySelector("script").textContent),
  }));

  // "@accent" stands for the style sheet's --accent; what stands for nothing there is a text.
  const coloured = (value, style) => {
    if (typeof value === "string") {
      return (value.startsWith("@") && style.getPropertyValue("--" + value.slice(1)).trim()) || value;
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
  };

  const axis = { gridcolor: "@grid", linecolor: "@rule", tickcolor: "@rule", zeroline: false, ticks: "outside", ticklen: 4 };
  const common = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 12, r: 16, t: 28, b: 12 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: "@paper", bordercolor: "@rule", align: "left", font: { color: "@ink", size: 13 } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 13 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "@rule", activecolor: "@accent" },
    font: { color: "@ink", size: 13, family: getComputedStyle(document.body).fontFamily },
  };

  const draw = () => {
    const style = getComputedStyle(root);
    for (const { place, figure } of figures) {
      const layout = {
        ...common,
        ...figure.layout,
        xaxis: { ...axis, ...figure.layout.xaxis },
        yaxis: { ...axis, ...figure.layout.yaxis },
      };
      Plotly.react(place, coloured(figure.data, style), coloured(layout, style), {
        responsive: true,
        displaylogo: false,
        displayModeBar: figure.data[0].type === "heatmap" ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      });
    }
  };

  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", () => { root.classList.add("printing"); draw(); });
  window.addEventListener("afterprint", () => { root.classList.remove("printing"); draw(); });
  draw();
})();
