for (const span of document.querySelectorAll(".address")) span.textContent = location.href.split("#")[0];
