"""What pages are made of: colours, charts and matrices as HTML and SVG that follow the page's theme."""
