// Command vpa measures the histogram of the Kubernetes Vertical Pod Autoscaler on the samples that
// benches/percentile.rs uses, with the options of its recommender's defaults. It prints one line
// per measurement: its id and nanoseconds.
package main

import (
	"fmt"
	"math"
	"time"

	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/model"
	"k8s.io/autoscaler/vertical-pod-autoscaler/pkg/recommender/util"
)

const (
	slots       = 24
	slotSamples = 240
	series      = 100_000
	interval    = 15 * time.Second
	// The recommender weighs a CPU sample by the container's request, and by this at least.
	weight = 0.1
)

// values are those of benches/percentile.rs: lognormal, in cores, from the same generator.
func values(n int) []float64 {
	state := uint64(0x2545_f491_4f6c_dd1d)
	uniform := func() float64 {
		state = state*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407
		return (float64(state>>11) + 0.5) / (1 << 53)
	}
	out := make([]float64, n)
	for i := range out {
		u, v := uniform(), uniform()
		out[i] = 0.05 * math.Exp(0.6*math.Sqrt(-2*math.Log(u))*math.Cos(2*math.Pi*v))
	}
	return out
}

func histogram() util.Histogram {
	config := model.GetAggregationsConfig()
	return util.NewDecayingHistogram(config.CPUHistogramOptions, config.CPUHistogramDecayHalfLife)
}

// report prints the fastest of 100 batches of about ten milliseconds: what else runs on the machine
// disturbs some of them, hardly all.
func report(id string, run func(n int)) {
	n := 1
	for timed(run, n) < 10*time.Millisecond {
		n *= 2
	}
	fastest := math.Inf(1)
	for range 100 {
		fastest = min(fastest, float64(timed(run, n).Nanoseconds())/float64(n))
	}
	fmt.Printf("%s %.2f\n", id, fastest)
}

func timed(run func(n int), n int) time.Duration {
	start := time.Now()
	run(n)
	return time.Since(start)
}

func insert(samples []float64) {
	start := time.Unix(1_700_000_000, 0)
	hot := histogram()
	report("insert/vpa/hot", func(n int) {
		for i := range n {
			// A day and over again: decay is scaled down now and then, as in service.
			hot.AddSample(samples[i%len(samples)], weight, start.Add(time.Duration(i%5760)*interval))
		}
	})
	all := make([]util.Histogram, series)
	for i := range all {
		all[i] = histogram()
		for j := range slotSamples {
			all[i].AddSample(samples[(i+j)%len(samples)], weight, start.Add(time.Duration(j)*interval))
		}
	}
	next := 0
	report("insert/vpa/100k", func(n int) {
		for range n {
			at := start.Add(time.Duration(slotSamples+next/series) * interval)
			all[next%series].AddSample(samples[next%len(samples)], weight, at)
			next++
		}
	})
}

func window(samples []float64) {
	start := time.Unix(1_700_000_000, 0)
	parts := make([]util.Histogram, slots)
	for i := range parts {
		parts[i] = histogram()
		for j := range slotSamples {
			at := start.Add(time.Duration(i*slotSamples+j) * interval)
			parts[i].AddSample(samples[i*slotSamples+j], weight, at)
		}
	}
	sum := 0.0
	report("window_24h/vpa", func(n int) {
		for range n {
			merged := histogram()
			for _, part := range parts {
				merged.Merge(part)
			}
			sum += merged.Percentile(0.5) + merged.Percentile(0.9) + merged.Percentile(0.99)
		}
	})
	if math.IsNaN(sum) {
		fmt.Println("# the percentiles are not numbers")
	}
}

func main() {
	insert(values(4096))
	window(values(slots * slotSamples))
}
