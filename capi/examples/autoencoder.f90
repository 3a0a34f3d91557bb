! A linear variational autoencoder from the kernels alone: products, the fused loss with its gradients, and Adam, on
! Fortran's own arrays.
!
!   gfortran autoencoder.f90 $(pkg-config --libs elbo) -o autoencoder && ./autoencoder
!
! An array x(columns, rows) of Fortran is an array [rows, columns] of the library: the first dimension is the one whose
! elements follow one another.

! The interface of the functions that are used here; `elbo.h` describes them.
module elbo
  use, intrinsic :: iso_c_binding
  implicit none

  integer(c_int32_t), parameter :: elbo_squared_error = 5, elbo_kl = 0, elbo_batch_mean = 0, elbo_adam = 0

  type, bind(c) :: elbo_reconstruction
    integer(c_int32_t) :: kind = elbo_squared_error
    real(c_float) :: pos_weight = 0, logvar = 0
    type(c_ptr) :: logvars = c_null_ptr
  end type

  type, bind(c) :: elbo_penalty
    integer(c_int32_t) :: kind = elbo_kl, per = 0
    real(c_float) :: lambda = 0, gamma = 0, nats = 0, prior_mean = 0, prior_std = 1
  end type

  type, bind(c) :: elbo_value
    real(c_double) :: loss, reconstruction, kl
  end type

  type, bind(c) :: elbo_optimizer
    integer(c_int32_t) :: kind, nesterov
    real(c_double) :: learning_rate, beta1, beta2, epsilon, weight_decay, momentum
  end type

  interface
    function elbo_compute_new(compute, threads) bind(c)
      import
      integer(c_int) :: elbo_compute_new
      type(c_ptr), intent(out) :: compute
      integer(c_size_t), value :: threads
    end function

    function elbo_panels_new(panels, outputs, inputs) bind(c)
      import
      integer(c_int) :: elbo_panels_new
      type(c_ptr), intent(out) :: panels
      integer(c_size_t), value :: outputs, inputs
    end function

    function elbo_panels_set(panels, weight, weight_stride, bias) bind(c)
      import
      integer(c_int) :: elbo_panels_set
      type(c_ptr), value :: panels
      real(c_float), intent(in) :: weight(*), bias(*)
      integer(c_size_t), value :: weight_stride
    end function

    function elbo_panels_data(panels, data, length) bind(c)
      import
      integer(c_int) :: elbo_panels_data
      type(c_ptr), value :: panels
      type(c_ptr), intent(out) :: data
      integer(c_size_t), intent(out) :: length
    end function

    function elbo_product(compute, y, y_stride, x, x_stride, panels, rows) bind(c)
      import
      integer(c_int) :: elbo_product
      type(c_ptr), value :: compute, panels
      real(c_float), intent(out) :: y(*)
      real(c_float), intent(in) :: x(*)
      integer(c_size_t), value :: y_stride, x_stride, rows
    end function

    function elbo_input_gradient(compute, dx, dx_stride, dy, dy_stride, panels, rows) bind(c)
      import
      integer(c_int) :: elbo_input_gradient
      type(c_ptr), value :: compute, panels
      real(c_float), intent(out) :: dx(*)
      real(c_float), intent(in) :: dy(*)
      integer(c_size_t), value :: dx_stride, dy_stride, rows
    end function

    function elbo_weight_gradient(compute, dpanels, x, x_stride, dy, dy_stride, rows) bind(c)
      import
      integer(c_int) :: elbo_weight_gradient
      type(c_ptr), value :: compute, dpanels
      real(c_float), intent(in) :: x(*), dy(*)
      integer(c_size_t), value :: x_stride, dy_stride, rows
    end function

    function elbo_objective_forward_backward(compute, term, penalty, beta, value_, doutputs, doutputs_stride, &
        dmu, dmu_stride, dlogvar, dlogvar_stride, outputs, outputs_stride, targets, targets_stride, mu, mu_stride, &
        logvar, logvar_stride, rows, columns, latent, reduction) bind(c)
      import
      integer(c_int) :: elbo_objective_forward_backward
      type(c_ptr), value :: compute
      type(elbo_reconstruction), intent(in) :: term
      type(elbo_penalty), intent(in) :: penalty
      real(c_float), value :: beta
      type(elbo_value), intent(out) :: value_
      real(c_float), intent(out) :: doutputs(*), dmu(*), dlogvar(*)
      real(c_float), intent(in) :: outputs(*), targets(*), mu(*), logvar(*)
      integer(c_size_t), value :: doutputs_stride, dmu_stride, dlogvar_stride, outputs_stride, targets_stride, &
        mu_stride, logvar_stride, rows, columns, latent
      integer(c_int32_t), value :: reduction
    end function

    function elbo_optimizer_init(optimizer, kind) bind(c)
      import
      integer(c_int) :: elbo_optimizer_init
      type(elbo_optimizer), intent(out) :: optimizer
      integer(c_int32_t), value :: kind
    end function

    function elbo_optimizer_step(compute, optimizer, t, w, m, v, g, length) bind(c)
      import
      integer(c_int) :: elbo_optimizer_step
      type(c_ptr), value :: compute, w, m, v, g
      type(elbo_optimizer), intent(in) :: optimizer
      integer(c_int64_t), value :: t
      integer(c_size_t), value :: length
    end function

    function elbo_last_error_message() bind(c)
      import
      type(c_ptr) :: elbo_last_error_message
    end function

    subroutine elbo_compute_free(compute) bind(c)
      import
      type(c_ptr), value :: compute
    end subroutine

    subroutine elbo_panels_free(panels) bind(c)
      import
      type(c_ptr), value :: panels
    end subroutine
  end interface

contains

  ! Ends the program with the library's message.
  subroutine check(status)
    integer(c_int), intent(in) :: status
    character(kind=c_char), pointer :: message(:)
    integer :: i
    if (status == 0) return
    call c_f_pointer(elbo_last_error_message(), message, [1000])
    do i = 1, size(message)
      if (message(i) == c_null_char) exit
      write (*, "(a)", advance="no") message(i)
    end do
    write (*, *)
    error stop 1
  end subroutine
end module

program autoencoder
  use elbo
  implicit none

  integer(c_size_t), parameter :: rows = 256, features = 12, latent = 2
  integer(c_int64_t), parameter :: steps = 1500
  ! What one layer has: weights, gradient, and two moments, in the library's order.
  type :: layer
    type(c_ptr) :: handle(4) = c_null_ptr, data(4) = c_null_ptr
    integer(c_size_t) :: length
  end type

  type(layer) :: encoder, decoder
  type(c_ptr) :: compute
  type(elbo_optimizer) :: adam
  type(elbo_value) :: value, first = elbo_value(0, 0, 0)
  real(c_float) :: x(features, rows), outputs(features, rows), doutputs(features, rows)
  ! mu and logvar side by side, as the encoder has them: each is some rows of one array.
  real(c_float), target :: heads(2 * latent, rows), dheads(2 * latent, rows)
  real(c_float) :: z(latent, rows), dz(latent, rows), noise(latent, rows), sigma(latent, rows)
  integer(c_int64_t) :: t
  integer :: i, j

  call check(elbo_compute_new(compute, 2_c_size_t))
  call new_layer(encoder, 2 * latent, features)
  call new_layer(decoder, features, latent)
  call check(elbo_optimizer_init(adam, elbo_adam))
  adam%learning_rate = 1d-2

  ! Data near a plane: two hidden coordinates, and noise.
  do j = 1, int(rows)
    do i = 1, int(features)
      x(i, j) = real(sin(0.7 * i) * sin(12.9898 * j) + cos(0.3 * i) * cos(78.233 * j) + 0.05 * sin(real(37 * i * j)))
    end do
  end do

  do t = 1, steps
    ! Forward: mu | logvar = encoder(x), z = mu + sigma * noise, outputs = decoder(z).
    call check(elbo_product(compute, heads, 2 * latent, x, features, encoder%handle(1), rows))
    call random_normal(noise)
    sigma = exp(0.5 * heads(latent + 1:, :))
    z = heads(:latent, :) + sigma * noise
    call check(elbo_product(compute, outputs, features, z, latent, decoder%handle(1), rows))

    ! The loss and its gradients, in one pass; mu and logvar are read in place, with the stride of `heads`.
    call check(elbo_objective_forward_backward(compute, elbo_reconstruction(), elbo_penalty(), 0.1, value, &
      doutputs, features, dheads, 2 * latent, dheads(latent + 1, 1), 2 * latent, outputs, features, x, features, &
      heads, 2 * latent, heads(latent + 1, 1), 2 * latent, rows, features, latent, elbo_batch_mean))
    if (t == 1) first = value

    ! Backward: through the decoder, the sample, and the encoder.
    call check(elbo_input_gradient(compute, dz, latent, doutputs, features, decoder%handle(1), rows))
    call check(elbo_weight_gradient(compute, decoder%handle(2), z, latent, doutputs, features, rows))
    dheads(:latent, :) = dheads(:latent, :) + dz
    dheads(latent + 1:, :) = dheads(latent + 1:, :) + 0.5 * dz * sigma * noise
    call check(elbo_weight_gradient(compute, encoder%handle(2), x, features, dheads, 2 * latent, rows))
    call update(encoder)
    call update(decoder)
    if (mod(t, 500_c_int64_t) == 0) then
      print "(a, i5, 3(a, f8.4))", "step ", t, "  loss ", value%loss, " = ", value%reconstruction, " + 0.1 * ", value%kl
    end if
  end do

  call free_layer(encoder)
  call free_layer(decoder)
  call elbo_compute_free(compute)
  ! The plane explains most of the data.
  if (value%reconstruction > 0.1 * first%reconstruction) error stop 2

contains

  ! Panels for the weights of a layer, small and without a pattern, and for its gradient and moments, 0.
  subroutine new_layer(it, outputs, inputs)
    type(layer), intent(out) :: it
    integer(c_size_t), intent(in) :: outputs, inputs
    real(c_float) :: weight(inputs, outputs), bias(outputs)
    integer :: k
    do k = 1, 4
      call check(elbo_panels_new(it%handle(k), outputs, inputs))
      call check(elbo_panels_data(it%handle(k), it%data(k), it%length))
    end do
    call random_normal(weight)
    weight = 0.1 * weight
    bias = 0
    call check(elbo_panels_set(it%handle(1), weight, inputs, bias))
  end subroutine

  subroutine update(it)
    type(layer), intent(in) :: it
    call check(elbo_optimizer_step(compute, adam, t, it%data(1), it%data(3), it%data(4), it%data(2), it%length))
  end subroutine

  subroutine free_layer(it)
    type(layer), intent(inout) :: it
    integer :: k
    do k = 1, 4
      call elbo_panels_free(it%handle(k))
    end do
  end subroutine

  ! Normal numbers, by Box and Muller.
  subroutine random_normal(numbers)
    real(c_float), intent(out) :: numbers(:, :)
    real(c_float) :: u(size(numbers, 1), size(numbers, 2)), v(size(numbers, 1), size(numbers, 2))
    call random_number(u)
    call random_number(v)
    numbers = sqrt(-2 * log(1 - u)) * cos(6.2831853 * v)
  end subroutine
end program
