// What a call has to do. `cpu.py` fills it in; both must agree on every field.

#pragma once
#include <stdint.h>

extern "C" {

// Axes are counted z, y, x; a lower rank has ones in front. Strides are counted in floats.
//
// Channels of orbits are numbered by a table `order`: member g of orbit i is channel order[g * orbits + i].
struct Task {
    int64_t mode;        // 0: from pictures to orbits, 1: from orbits to orbits, 2: from orbits to pictures
    int64_t kind;        // the letters of the orbits: 1 for h, 2 for v, 4 for z
    int64_t batch;
    int64_t inputs;      // input channels: pictures, or orbits
    int64_t outputs;     // output channels: pictures, or orbits
    int64_t size[3];     // of the input
    int64_t answer[3];   // of the output
    int64_t kernel[3], stride[3], dilation[3];
    int64_t padding[3];  // before the first pixel
    int64_t stored[3], before[3];  // taps that are stored of an answer's filters, and zeros before them: the kernel is wider
    int64_t in_batch, in_channel, in_position[3];
    int64_t out_batch, out_channel, out_position[3];  // positions of the output are dense where they are not spaced
    // Gradients of the input of strided layers: the answers of a member are so far apart in the picture that is written, and
    // so are the taps that make them. Its first tap is its phase; its first answer lies `margin` before the place of that.
    int64_t spacing[3], phase[8][3], margin[3];
    int64_t written[3];  // sizes of that picture
    int64_t filter_stride, channel_stride, tap_stride;  // of the stored filters
    int64_t transposed;  // filters are read backwards, with inputs and outputs exchanged: gradients of the input
    int64_t add;         // to what the output holds, instead of replacing it
    int64_t threads;
    int64_t budget;      // bytes that one thread may fold into
    int64_t caches;      // bytes of an answer that stay close to the processor
};

}
