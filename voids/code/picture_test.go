package code_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// picture is what a camera sees: 0 is dark, 1 is light, and so is everything outside.
type picture struct {
	width, height int
	pixels        []float64
}

func newPicture(width, height int) *picture {
	p := &picture{width, height, make([]float64, width*height)}
	for i := range p.pixels {
		p.pixels[i] = 1
	}
	return p
}

func (p *picture) at(x, y int) float64 {
	if x < 0 || y < 0 || x >= p.width || y >= p.height {
		return 1
	}
	return p.pixels[y*p.width+x]
}

// developed reads a PNG.
func developed(t testing.TB, encoded []byte) *picture {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	p := newPicture(img.Bounds().Dx(), img.Bounds().Dy())
	for y := range p.height {
		for x := range p.width {
			p.pixels[y*p.width+x] = float64(color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y) / 255
		}
	}
	return p
}

// between returns the light between pixels.
func (p *picture) between(x, y float64) float64 {
	left, top := math.Floor(x), math.Floor(y)
	fx, fy := x-left, y-top
	i, j := int(left), int(top)
	return (p.at(i, j)*(1-fx)+p.at(i+1, j)*fx)*(1-fy) + (p.at(i, j+1)*(1-fx)+p.at(i+1, j+1)*fx)*fy
}

// scaled makes the picture smaller or larger: a pixel is the mean of what it covers, at 4 by 4 points.
func (p *picture) scaled(factor float64) *picture {
	q := newPicture(int(math.Ceil(float64(p.width)*factor)), int(math.Ceil(float64(p.height)*factor)))
	const points = 4
	for y := range q.height {
		for x := range q.width {
			sum := 0.0
			for j := range points {
				for i := range points {
					sum += p.between((float64(x)+(float64(i)+0.5)/points)/factor-0.5, (float64(y)+(float64(j)+0.5)/points)/factor-0.5)
				}
			}
			q.pixels[y*q.width+x] = sum / (points * points)
		}
	}
	return q
}

// rotated turns the picture by an angle in degrees, on a larger sheet of paper.
func (p *picture) rotated(degrees float64) *picture {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	w, h := float64(p.width), float64(p.height)
	q := newPicture(int(math.Ceil(w*math.Abs(cos)+h*math.Abs(sin)))+2, int(math.Ceil(w*math.Abs(sin)+h*math.Abs(cos)))+2)
	for y := range q.height {
		for x := range q.width {
			dx, dy := float64(x)-float64(q.width-1)/2, float64(y)-float64(q.height-1)/2
			q.pixels[y*q.width+x] = p.between(dx*cos+dy*sin+(w-1)/2, dy*cos-dx*sin+(h-1)/2)
		}
	}
	return q
}

// blurred is out of focus: a Gaussian of so many pixels.
func (p *picture) blurred(sigma float64) *picture {
	reach := int(math.Ceil(3 * sigma))
	kernel := make([]float64, 2*reach+1)
	sum := 0.0
	for i := range kernel {
		d := float64(i - reach)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += kernel[i]
	}
	along := func(p *picture, dx, dy int) *picture {
		q := newPicture(p.width, p.height)
		for y := range p.height {
			for x := range p.width {
				v := 0.0
				for i, k := range kernel {
					v += k / sum * p.at(x+dx*(i-reach), y+dy*(i-reach))
				}
				q.pixels[y*p.width+x] = v
			}
		}
		return q
	}
	return along(along(p, 1, 0), 0, 1)
}

// noised makes a share of the pixels black or white.
func (p *picture) noised(random *rand.Rand, share float64) *picture {
	q := newPicture(p.width, p.height)
	for i, v := range p.pixels {
		if random.Float64() < share {
			v = float64(random.IntN(2))
		}
		q.pixels[i] = v
	}
	return q
}

// withoutColumns is printed by a head with dead dots: those columns of pixels are white.
func (p *picture) withoutColumns(columns ...int) *picture {
	q := newPicture(p.width, p.height)
	copy(q.pixels, p.pixels)
	for _, x := range columns {
		for y := range p.height {
			q.pixels[y*p.width+x] = 1
		}
	}
	return q
}

// faded has little contrast: dark and light are those given, and light falls off by a tenth to
// the right.
func (p *picture) faded(dark, light float64) *picture {
	q := newPicture(p.width, p.height)
	for i, v := range p.pixels {
		q.pixels[i] = (dark + (light-dark)*v) * (1 - 0.1*float64(i%p.width)/float64(p.width))
	}
	return q
}

// despeckled makes each pixel the median of itself and its neighbours.
func (p *picture) despeckled() *picture {
	q := newPicture(p.width, p.height)
	for y := range p.height {
		for x := range p.width {
			var around [9]float64
			for i := range around {
				around[i] = p.at(x+i%3-1, y+i/3-1)
			}
			slices.Sort(around[:])
			q.pixels[y*p.width+x] = around[4]
		}
	}
	return q
}

// read gives the picture to an independent reader, ZXing's in Go. Like a scanner it tries more
// than once: the picture as it is, smoothed, despeckled, from nearer and from farther away; with a threshold
// for each part of the picture and with one for all of it. It returns the text and the level of
// error correction that the reader found.
func (p *picture) read() (text, level string, err error) {
	for _, try := range []func() *picture{
		func() *picture { return p }, func() *picture { return p.blurred(0.8) }, p.despeckled, func() *picture { return p.scaled(1.5) }, func() *picture { return p.scaled(0.75) },
	} {
		if text, level, err = try().readOnce(); err == nil {
			return text, level, nil
		}
	}
	return "", "", err
}

func (p *picture) readOnce() (text, level string, err error) {
	img := image.NewGray(image.Rect(0, 0, p.width, p.height))
	for i, v := range p.pixels {
		img.Pix[i] = uint8(math.Round(255 * min(max(v, 0), 1)))
	}
	source := gozxing.NewLuminanceSourceFromImage(img)
	for _, binarizer := range []gozxing.Binarizer{gozxing.NewHybridBinarizer(source), gozxing.NewGlobalHistgramBinarizer(source)} {
		var bitmap *gozxing.BinaryBitmap
		if bitmap, err = gozxing.NewBinaryBitmap(binarizer); err != nil {
			return "", "", err
		}
		var result *gozxing.Result
		if result, err = qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true}); err == nil {
			level, _ = result.GetResultMetadata()[gozxing.ResultMetadataType_ERROR_CORRECTION_LEVEL].(string)
			return result.GetText(), level, nil
		}
	}
	return "", "", err
}
