package code

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
)

// MaxScale bounds a PNG, in pixels per module.
const MaxScale = 64

// PNG draws the symbol in black and white, one bit per pixel, each module a square of scale
// pixels. The error is [ErrScale].
func (s *Symbol) PNG(scale int) ([]byte, error) {
	if scale < 1 || scale > MaxScale {
		return nil, ErrScale
	}
	side := s.Size() * scale
	picture := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		row := picture.Pix[y*picture.Stride:][:side]
		for x := range side {
			if s.Dark(x/scale, y/scale) {
				row[x] = 1
			}
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, picture); err != nil {
		return nil, fmt.Errorf("draw void code: %w", err)
	}
	return b.Bytes(), nil
}

// SVG draws the symbol as one black path on a white square, one unit per module. It has
// no script, no style and no reference to anything else; whoever shows it gives it a size.
func (s *Symbol) SVG() []byte {
	var path strings.Builder
	size := s.Size()
	for y := range size {
		for x := 0; x < size; x++ {
			length := 0
			for s.Dark(x+length, y) {
				length++
			}
			if length > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x, y, length, length)
				x += length
			}
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" shape-rendering="crispEdges"><rect width="%[1]d" height="%[1]d" fill="#fff"/><path fill="#000" d="%[2]s"/></svg>`+"\n", size, &path)
}
