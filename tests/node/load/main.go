// Command load is what runs in the containers of the test node, FROM scratch: `load pause` keeps a pod's namespaces, and
// `load use CORES MEBIBYTES [MORE SECONDS]` uses so much until it is told to end, after some seconds that much more memory.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if (len(os.Args) == 4 || len(os.Args) == 6) && os.Args[1] == "use" {
		use(os.Args[2])
		hold(os.Args[3])
		if len(os.Args) == 6 {
			time.Sleep(time.Duration(number(os.Args[5])) * time.Second)
			hold(os.Args[4])
		}
	} else if len(os.Args) != 2 || os.Args[1] != "pause" {
		fail("usage: load pause | load use CORES MEBIBYTES [MORE SECONDS]")
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	<-told
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		fail(text + " is no whole number")
	}
	return value
}

var held [][]byte

func hold(mebibytes string) {
	more := make([]byte, number(mebibytes)<<20)
	for at := 0; at < len(more); at += 4096 {
		more[at] = 1 // a page that nothing was written to takes no memory
	}
	held = append(held, more)
}

func use(cores string) {
	share, err := strconv.ParseFloat(cores, 64)
	if err != nil || share < 0 || share > 1 {
		fail("CORES is 0 to 1")
	}
	go func() {
		// Processor time of this thread, so that what else the machine does changes nothing.
		runtime.LockOSThread()
		begun := time.Now()
		for {
			for spent() < time.Duration(share*float64(time.Since(begun))) {
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func spent() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &usage); err != nil {
		fail(err.Error())
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
