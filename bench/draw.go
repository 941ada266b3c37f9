package main

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Of a drawing.
const (
	drawingWidth  = 16 * vg.Centimeter
	drawingHeight = 9 * vg.Centimeter
)

var sideColors = [2]color.Color{color.RGBA{R: 0x88, G: 0x88, B: 0x88, A: 0xff}, color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}}

// draw writes a curve of both sides, on logarithmic axes, into a file.
func draw(path string, c curve, points []point, names [2]string) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = c.title
	p.X.Label.Text, p.Y.Label.Text = "keys", c.unit
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	var sizes []plot.Tick
	for _, keys := range keysOf(points) {
		sizes = append(sizes, plot.Tick{Value: float64(keys), Label: short(keys)})
	}
	p.X.Tick.Marker = plot.ConstantTicks(sizes)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	least, most := math.Inf(1), math.Inf(-1)
	for side, name := range names {
		var line plotter.XYs
		for _, point := range points {
			value := point.samples[side].value
			line = append(line, plotter.XY{X: float64(point.keys), Y: value})
			least, most = min(least, value), max(most, value)
		}
		lines, marks, err := plotter.NewLinePoints(line)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		lines.Color, marks.Color = sideColors[side], sideColors[side]
		lines.Width = vg.Points(2)
		p.Add(lines, marks)
		p.Legend.Add(name, lines, marks)
	}
	// Whole decades: their ends are what the axis names.
	p.Y.Min = math.Pow(10, math.Floor(math.Log10(least)))
	p.Y.Max = math.Pow(10, math.Floor(math.Log10(most))+1)
	return p.Save(drawingWidth, drawingHeight, path)
}
